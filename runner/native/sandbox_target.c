#define _GNU_SOURCE
#include "sandbox_target.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "wire.h"

/* path_resolution(7) */
#define MOST_SYMLINKS 40

/* `path` is relative and free of symlinks; the kernel refuses if that has changed meanwhile, so nothing leads out of `root`. */
static int open_inside(int root, const char *path, uint64_t flags) {
  struct open_how how = {
      .flags = flags | O_CLOEXEC,
      .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
  };
  return (int)syscall(SYS_openat2, root, *path == '\0' ? "." : path, &how, sizeof how);
}

static void remember(struct stub_list *stubs, int parent, const struct stub *made) {
  struct stub *stub = wire_allocate(sizeof *stub);
  *stub = *made;
  stub->parent = parent;
  stub->next = stubs->newest;
  stubs->newest = stub;
}

/* Whether the upper folder has no copy of the folder `path` yet. */
static bool only_below(const struct stub_list *stubs, const char *path) {
  if (stubs->upper == NULL || *path == '\0') return false;
  char full[PATH_MAX];
  if (snprintf(full, sizeof full, "%s/%s", stubs->upper, path) >= (int)sizeof full) return false;
  struct stat status;
  return lstat(full, &status) < 0 && errno == ENOENT;
}

/* Makes `name` in the folder `where`; 0, or -1 with errno. */
static int make(int root, const char *where, const char *name, enum target_type type, struct stub_list *stubs) {
  int parent = open_inside(root, where, O_RDONLY | O_DIRECTORY);
  if (parent < 0) return -1;
  struct stat before, made, after;
  bool known = stubs != NULL && fstat(parent, &before) == 0;
  bool copied_up = known && only_below(stubs, where);
  int result = -1;
  if (type == TARGET_FOLDER) {
    result = mkdirat(parent, name, 0755);
  } else {
    int file = openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (file >= 0) result = close(file);
  }
  if (result == 0 && known && fstatat(parent, name, &made, AT_SYMLINK_NOFOLLOW) == 0) {
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, before.st_mtim};
    futimens(parent, times);
    if (fstat(parent, &after) < 0) after = before;
    remember(stubs, parent,
             &(struct stub){.name = strdup(name), .folder = type == TARGET_FOLDER, .inode = made.st_ino,
                            .parent_mtime = before.st_mtim, .parent_ctime = after.st_ctim,
                            .parent_path = strdup(where), .parent_copied_up = copied_up});
    return 0;
  }
  int error = errno;
  close(parent);
  errno = error;
  return result;
}

struct walk {
  char done[PATH_MAX]; /* resolved so far */
  char todo[PATH_MAX];
  int symlinks;
};

/* Cuts the next part off `todo`; NULL at the end. */
static const char *next_part(struct walk *walk, char *part) {
  const char *start = walk->todo + strspn(walk->todo, "/");
  size_t length = strcspn(start, "/");
  if (length == 0) return NULL;
  if (length > NAME_MAX) length = NAME_MAX;
  memcpy(part, start, length);
  part[length] = '\0';
  memmove(walk->todo, start + length, strlen(start + length) + 1);
  return part;
}

static bool is_last(const struct walk *walk) { return walk->todo[strspn(walk->todo, "/")] == '\0'; }

static void go_up(struct walk *walk) {
  char *slash = strrchr(walk->done, '/');
  *(slash == NULL ? walk->done : slash) = '\0';
}

/* Puts a symlink's target in front of what is left to do. */
static int follow(struct walk *walk, int link) {
  char target[PATH_MAX], rest[PATH_MAX];
  ssize_t length = readlinkat(link, "", target, sizeof target - 1);
  if (length < 0) return -1;
  target[length] = '\0';
  if (++walk->symlinks > MOST_SYMLINKS) {
    errno = ELOOP;
    return -1;
  }
  memcpy(rest, walk->todo, sizeof rest);
  if (target[0] == '/') walk->done[0] = '\0';
  if ((size_t)snprintf(walk->todo, sizeof walk->todo, "%s/%s", target, rest) >= sizeof walk->todo) {
    errno = ENAMETOOLONG;
    return -1;
  }
  return 0;
}

/* One part of the way: into it, through it where it is a symlink, or made where it is missing. */
static int step(int root, struct walk *walk, const char *part, enum target_type type, struct stub_list *stubs) {
  char candidate[PATH_MAX];
  const char *slash = walk->done[0] == '\0' ? "" : "/";
  if ((size_t)snprintf(candidate, sizeof candidate, "%s%s%s", walk->done, slash, part) >= sizeof candidate) {
    errno = ENAMETOOLONG;
    return -1;
  }
  int found = open_inside(root, candidate, O_PATH | O_NOFOLLOW);
  if (found < 0) {
    if (errno != ENOENT) return -1;
    if (make(root, walk->done, part, is_last(walk) ? type : TARGET_FOLDER, stubs) < 0) return -1;
    memcpy(walk->done, candidate, sizeof candidate);
    return 0;
  }
  struct stat status;
  int result = fstat(found, &status);
  if (result == 0 && S_ISLNK(status.st_mode)) result = follow(walk, found);
  else if (result == 0) memcpy(walk->done, candidate, sizeof candidate);
  int error = errno;
  close(found);
  errno = error;
  return result;
}

static int open_target(int root, const char *path, enum target_type type, struct stub_list *stubs, int symlinks) {
  struct walk walk = {.symlinks = symlinks};
  if (strlen(path) >= sizeof walk.todo) {
    errno = ENAMETOOLONG;
    return -1;
  }
  strcpy(walk.todo, path);
  char part[NAME_MAX + 1];
  while (next_part(&walk, part) != NULL) {
    if (strcmp(part, ".") == 0) continue;
    if (strcmp(part, "..") == 0) go_up(&walk);
    else if (step(root, &walk, part, type, stubs) < 0) return -1;
  }
  return open_inside(root, walk.done, O_PATH);
}

int target_open(int root, const char *path, enum target_type type, struct stub_list *stubs) {
  return open_target(root, path, type, stubs, 0);
}

int target_open_plain(int root, const char *path, struct stub_list *stubs) {
  return open_target(root, path, TARGET_FOLDER, stubs, MOST_SYMLINKS);
}

static bool same_time(struct timespec a, struct timespec b) { return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec; }

static void remove_stub(struct stub *stub) {
  struct stat before, status;
  if (fstat(stub->parent, &before) < 0) return;
  if (fstatat(stub->parent, stub->name, &status, AT_SYMLINK_NOFOLLOW) < 0) return;
  bool ours = status.st_ino == stub->inode && (stub->folder ? S_ISDIR(status.st_mode) : S_ISREG(status.st_mode));
  if (!ours || (!stub->folder && status.st_size != 0)) return;
  /* A folder that got content stays: it is not empty, and rmdir says so. */
  if (unlinkat(stub->parent, stub->name, stub->folder ? AT_REMOVEDIR : 0) < 0) return;
  struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, before.st_mtim};
  futimens(stub->parent, times);
  stub->parent_copied_up = stub->parent_copied_up && same_time(before.st_ctim, stub->parent_ctime);
  /* The next older stub of the same folder compares with the state that this removal leaves behind. */
  struct stat after;
  if (!same_time(before.st_ctim, stub->parent_ctime) || fstat(stub->parent, &after) < 0) return;
  for (struct stub *older = stub->next; older != NULL; older = older->next) {
    if (strcmp(older->parent_path, stub->parent_path) == 0) older->parent_ctime = after.st_ctim;
  }
}

void stubs_remove(struct stub_list *stubs) {
  for (struct stub *stub = stubs->newest; stub != NULL; stub = stub->next) {
    remove_stub(stub);
    close(stub->parent);
  }
}

void stubs_drop_copies(struct stub_list *stubs) {
  for (struct stub *stub = stubs->newest; stub != NULL; stub = stub->next) {
    if (!stub->parent_copied_up) continue;
    char full[PATH_MAX], above[PATH_MAX];
    if (snprintf(full, sizeof full, "%s/%s", stubs->upper, stub->parent_path) >= (int)sizeof full) continue;
    memcpy(above, full, sizeof full);
    *strrchr(above, '/') = '\0';
    struct stat status;
    bool known = lstat(above, &status) == 0;
    /* An opaque copy hides what lies below: it is a change of its own. */
    char value;
    if (lgetxattr(full, "trusted.overlay.opaque", &value, 1) >= 0) continue;
    if (rmdir(full) < 0 || !known) continue;
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, status.st_mtim};
    utimensat(AT_FDCWD, above, times, AT_SYMLINK_NOFOLLOW);
  }
}
