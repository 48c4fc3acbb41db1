/* Device nodes, and what stands for them where nobody may make one. */
#ifndef VARVE_TREE_NODE_H
#define VARVE_TREE_NODE_H

#include <stdbool.h>
#include <sys/stat.h>

#include "tree_path.h"

/* The extended attribute of an empty file that stands for a device: `c` or `b`, major and minor number, with blanks between. */
#define STAND_IN "user.varve.node"

/*
 * mknod(2) of a device, fifo or socket, for its owner only. In a user namespace, where no device can be made, an empty file with STAND_IN
 * takes its place; so it does for a whiteout (device 0:0) on a file system that is an overlay, which takes none. Negative, with errno, where
 * that fails.
 */
int node_make(const struct tree_place *place, mode_t type, dev_t device);

/* Gives `status`, that of the host path `file`, the type and the numbers of the device that it stands for. False where it is none. */
bool node_stood_for(const char *file, struct stat *status);

#endif
