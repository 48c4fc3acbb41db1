/* The file server: shows a traced tree to the kernel over /dev/fuse, and notes what it was asked for. */
#ifndef VARVE_TRACE_SERVER_H
#define VARVE_TRACE_SERVER_H

#include "trace_ahead.h"
#include "trace_content.h"
#include "trace_record.h"

struct trace_server {
  int fuse; /* the mounted /dev/fuse */
  struct trace_tree tree;
  struct trace_record record;
  struct trace_content content;
  struct trace_ahead ahead;
  const char *prefix; /* of overlayfs' own attributes: `trusted.overlay.` or `user.overlay.` */
};

/*
 * Answers the kernel until the file system is gone (true), or `*stop` is set by a signal handler that interrupts read(2) (true).
 * False, with errno, where the kernel cannot be talked with. Nothing that it calls may touch the mount.
 */
bool trace_serve(struct trace_server *server, const volatile int *stop);

#endif
