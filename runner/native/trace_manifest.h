/* The `manifest` file of a diff (docs/on-disk-format.md), read record by record without copying. */
#ifndef VARVE_TRACE_MANIFEST_H
#define VARVE_TRACE_MANIFEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct manifest_text {
  const unsigned char *bytes;
  size_t length;
};

enum manifest_kind {
  MANIFEST_FILE,
  MANIFEST_FOLDER,
  MANIFEST_SYMLINK,
  MANIFEST_CHAR,
  MANIFEST_BLOCK,
  MANIFEST_FIFO,
  MANIFEST_SOCKET,
  MANIFEST_WHITEOUT = 8,
  MANIFEST_OPAQUE = 9,
};

struct manifest_record {
  enum manifest_kind kind;
  bool own;                  /* of a patch: it lies in the patch's own folder; not set: in that of its original */
  struct manifest_text path; /* in a buffer of the reader, until the next record */
  size_t shared;             /* so many bytes of the path are as in the record before */
  uint32_t mode, uid, gid, nsec;
  int64_t sec;
  uint64_t size;
  uint32_t major, minor;
  struct manifest_text target; /* of a symlink */
  struct manifest_text first;  /* path of the file's first name; no bytes: this is it, or the only one */
  uint32_t xattr_count;
  struct manifest_text xattrs; /* names and values in turn, to be read with manifest_xattr; live as long as the manifest */
};

struct manifest {
  const unsigned char *at, *end;
  uint64_t count; /* of the records that follow the root's */
  struct manifest_record root;
  unsigned char *path;
  size_t path_length, path_capacity;
};

/*
 * Reads the manifest in `folder` and its header. NULL, or words for people where it cannot be read, is of another version or
 * torn. What it has allocated stays until the process ends.
 */
const char *manifest_open(struct manifest *manifest, const char *folder);

/* The data folder that a patch stands on, which its own name tells; NULL for a diff that stands by itself. To be freed. */
char *manifest_original(const char *folder);

/* The next record; false where the manifest ends within it. To be called `count` times. */
bool manifest_next(struct manifest *manifest, struct manifest_record *record);

/* Takes the next name and value off `xattrs`; false at the end. */
bool manifest_xattr(struct manifest_text *xattrs, struct manifest_text *name, struct manifest_text *value);

#endif
