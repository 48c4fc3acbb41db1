/* Finding, and making, the places inside a root where something is mounted. */
#ifndef VARVE_SANDBOX_TARGET_H
#define VARVE_SANDBOX_TARGET_H

#include <stdbool.h>
#include <sys/types.h>
#include <time.h>

/* Deeper copies are left in the diff: folders that are like the parent's. */
#define MOST_COPIES 16

/* Something that was made only so that a mount has a place, and the folder that holds it. */
struct stub {
  int parent;   /* descriptor of the folder */
  char *name;
  bool folder;
  ino_t inode;
  char *parent_path;            /* relative to the root, without symlinks */
  /* Making it put copies of so many folders into the overlay's upper folder: the parent, the one above it, and so on. */
  unsigned copied_up;
  struct timespec copy_ctimes[MOST_COPIES];
  struct stub *next;            /* made before this one */
};

struct stub_list {
  struct stub *newest;
  const char *upper; /* upper folder of the root's overlay, or NULL */
};

enum target_type { TARGET_FOLDER, TARGET_FILE };

/*
 * Opens (O_PATH) what lies at `path` inside `root`. Symlinks on the way and at the end are followed as if `root` were `/`,
 * also dangling ones; whatever is missing is made: folders 0755, at the end `type`. What is made goes to `stubs`
 * unless that is NULL. Returns -1 with errno; ELOOP for more than 40 symlinks.
 */
int target_open(int root, const char *path, enum target_type type, struct stub_list *stubs);

/* As target_open, but a symlink anywhere in `path` is an error (ELOOP): for places that the kernel's own file systems take. */
int target_open_plain(int root, const char *path, struct stub_list *stubs);

/* Whether one of them is what `fd` leads to. */
bool stubs_have(const struct stub_list *stubs, int fd);

/* Takes note, after the last stub was made, of how the folders around them look: later changes are the sandbox's. */
void stubs_settle(struct stub_list *stubs);

/* Removes the stubs that are still empty, newest first, and puts back the times of untouched folders around them. */
void stubs_remove(struct stub_list *stubs);

/*
 * Once the overlay is gone: takes out of its upper folder the copies of folders which are there only because of stubs, so
 * that the diff does not list them as changed.
 */
void stubs_drop_copies(struct stub_list *stubs);

#endif
