/*
 * Names inside a tree of files that nobody has to trust. A path is resolved as if the tree's root were `/` (openat2(2),
 * RESOLVE_IN_ROOT), so neither `..`, nor a symlink, nor an absolute target leads outside; the last part is never followed.
 */
#ifndef VARVE_TREE_PATH_H
#define VARVE_TREE_PATH_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define TREE_FOLDERS 509

/* A folder that was resolved before: most operations follow one on a neighbour. */
struct tree_folder {
  char *path;
  int fd;
  dev_t device;
  ino_t inode;
};

struct tree {
  int root;
  struct tree_folder folders[TREE_FOLDERS];
};

/* Where a name lies: a folder (borrowed until the next call on the tree) and the last part, `.` for the root. */
struct tree_place {
  int folder;
  dev_t device;
  ino_t inode;
  const char *name;
};

/* Lets this process have as many open files as it ever may (RLIMIT_NOFILE). */
void tree_allow_many_files(void);

/* Takes over `root`. Lifts the limit of open files as far as it goes. */
void tree_init(struct tree *tree, int root);

/*
 * Finds the folder that `path` lies in. With `make`, missing folders on the way are made, 0755 and 0:0, also behind
 * symlinks that point to nothing. Returns -1 with errno set where there is no such folder.
 */
int tree_find(struct tree *tree, const char *path, bool make, struct tree_place *place);

/* To be called after a folder or a symlink was removed: what was resolved through it holds no longer. */
void tree_forget(struct tree *tree);

/* Opens a folder of the host with O_PATH or O_RDONLY in `flags`, however long its path. Symlinks are followed. */
int host_open_folder(const char *path, int flags);

/* Opens the last part of a host path without following it, however long the path. */
int host_open_file(const char *path, int flags);

/* Ends the process over an errno: code `disk-full` for ENOSPC and EDQUOT, else `tree-io`. */
_Noreturn void tree_fail(const char *path, const char *what);

#endif
