/* Content of regular files: from the orders' stream or from a file of the host, with holes kept. */
#ifndef VARVE_TREE_CONTENT_H
#define VARVE_TREE_CONTENT_H

#include <stdint.h>

#include "wire.h"

/* Writes `size` bytes of the stream to `fd`; long runs of zeros become holes. -1 with errno set on failure. */
int content_from_stream(int fd, struct wire_in *in, uint64_t size);

/* Copies a regular file: holes stay holes, blocks are shared where the file system can. -1 with errno set on failure. */
int content_from_host(int fd, const char *path);

#endif
