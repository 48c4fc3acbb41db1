/* Answers to the kernel (linux/fuse.h), one function per kind of question about a node. */
#ifndef VARVE_TRACE_REPLY_H
#define VARVE_TRACE_REPLY_H

#include <linux/fuse.h>

#include "trace_server.h"

/* A question: its header, and what follows it. */
struct trace_request {
  const struct fuse_in_header *header;
  const unsigned char *body;
  size_t size; /* of the body */
  struct trace_node *node;
};

/* Sends `error` (0, or a negative errno) and, where there is none, the bytes. */
void trace_reply(const struct trace_server *server, const struct trace_request *request, int error, const void *bytes, size_t size);

void trace_reply_lookup(struct trace_server *server, const struct trace_request *request);
void trace_reply_attributes(struct trace_server *server, const struct trace_request *request);
void trace_reply_listing(struct trace_server *server, const struct trace_request *request);
void trace_reply_xattr(struct trace_server *server, const struct trace_request *request);
void trace_reply_xattr_names(struct trace_server *server, const struct trace_request *request);

/* What a look-up of the node, or of nothing where it is absent, gives the kernel: to be kept for good. */
void trace_fill_entry(const struct trace_node *node, struct fuse_entry_out *entry);

#endif
