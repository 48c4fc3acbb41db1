/* The bytes of files of traced diffs: opened when first read, the most recently read ones kept open. */
#ifndef VARVE_TRACE_CONTENT_H
#define VARVE_TRACE_CONTENT_H

#include <sys/types.h>

#include "trace_tree.h"

#define OPEN_CONTENTS 64

struct trace_content {
  int *folders; /* `fs` of the diffs and of what patches stand on, by the numbers of trace_folder */
  struct {
    struct trace_node *node;
    uint64_t used;
    int fd;
  } slots[OPEN_CONTENTS];
  uint64_t clock;
  const struct trace_node *last; /* the folder that a file was opened in last, or NULL */
  uint16_t last_diff;
  int last_fd;
};

/* Opens the folders of `diffs`. False, with errno, where one cannot be opened. */
bool trace_content_init(struct trace_content *content, char *const *diffs, uint32_t count);

/* As pread(2) on the node's file. A file that is shorter than its manifest says is EIO. */
ssize_t trace_content_read(struct trace_content *content, struct trace_node *node, void *buffer, size_t size, off_t offset);

#endif
