/* What an operation gives to the file that it makes: Attributes of core/native.ts. Its form on the wire: tree_apply.c. */
#ifndef VARVE_TREE_ATTRIBUTES_H
#define VARVE_TREE_ATTRIBUTES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "tree_path.h"
#include "wire.h"

struct attribute {
  char *name;
  unsigned char *value;
  uint32_t size;
};

struct attributes {
  mode_t mode;
  uid_t uid;
  gid_t gid;
  bool timed;
  struct timespec time;
  uint16_t count;
  struct attribute *extended;
};

struct attributes attributes_read(struct wire_in *in);
void attributes_free(struct attributes *attributes);

struct attributes_target {
  mode_t type;
  bool existed; /* then extended attributes that are not listed are taken away */
  const char *path;
};

/*
 * Sets owner, extended attributes, mode and time, in this order: a change of owner clears set-id bits and file
 * capabilities (chown(2)), so both come after it. The time of a folder is left to the caller.
 */
void attributes_set(const struct attributes *attributes, const struct tree_place *place, struct attributes_target target);

#endif
