/* The names that one call has made: what `clear` must leave alone. A name is known by its folder's inode. */
#ifndef VARVE_TREE_MADE_H
#define VARVE_TREE_MADE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "tree_path.h"

struct made_name {
  dev_t device;
  ino_t inode;
  char *name; /* NULL: the slot is free */
};

/* Empty when zeroed. */
struct made {
  struct made_name *slots;
  size_t count, capacity;
};

void made_add(struct made *made, const struct tree_place *place);
bool made_has(const struct made *made, const struct tree_place *place);

#endif
