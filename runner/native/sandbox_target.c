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

/* Path of `path` in the upper folder; false where there is no such thing. */
static bool in_upper(const struct stub_list *stubs, const char *path, char full[PATH_MAX]) {
  if (stubs->upper == NULL) return false;
  return snprintf(full, PATH_MAX, "%s/%s", stubs->upper, path) < PATH_MAX;
}

static void go_above(char *path) {
  char *slash = strrchr(path, '/');
  *(slash == NULL ? path : slash) = '\0';
}

/* How many folders, from `path` upwards, the upper folder has no copy of yet. */
static unsigned count_missing(const struct stub_list *stubs, const char *path) {
  char at[PATH_MAX], full[PATH_MAX];
  struct stat status;
  unsigned missing = 0;
  snprintf(at, sizeof at, "%s", path);
  while (*at != '\0' && missing < MOST_COPIES && in_upper(stubs, at, full) && lstat(full, &status) < 0 && errno == ENOENT) {
    missing++;
    go_above(at);
  }
  return missing;
}

/* The times of last change of `count` copies, from `path` upwards. A change of mode, owner, attributes or content moves them. */
static void read_ctimes(const struct stub_list *stubs, const char *path, unsigned count, struct timespec *ctimes) {
  char at[PATH_MAX], full[PATH_MAX];
  snprintf(at, sizeof at, "%s", path);
  for (unsigned i = 0; i < count; i++) {
    struct stat status = {0};
    if (in_upper(stubs, at, full)) lstat(full, &status);
    ctimes[i] = status.st_ctim;
    go_above(at);
  }
}

/* Makes `name` in the folder `where`; 0, or -1 with errno. */
static int make(int root, const char *where, const char *name, enum target_type type, struct stub_list *stubs) {
  int parent = open_inside(root, where, O_RDONLY | O_DIRECTORY);
  if (parent < 0) return -1;
  struct stat before, made;
  bool known = stubs != NULL && fstat(parent, &before) == 0;
  unsigned copied_up = known ? count_missing(stubs, where) : 0;
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
    struct stub stub = {.name = strdup(name), .folder = type == TARGET_FOLDER, .inode = made.st_ino,
                        .parent_path = strdup(where), .copied_up = copied_up};
    remember(stubs, parent, &stub);
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
  bool too_long; /* a part is longer than a name can be */
};

/* Cuts the next part off `todo`; NULL at the end, and at one that is too long. */
static const char *next_part(struct walk *walk, char *part) {
  const char *start = walk->todo + strspn(walk->todo, "/");
  size_t length = strcspn(start, "/");
  walk->too_long = length > NAME_MAX;
  if (length == 0 || walk->too_long) return NULL;
  memcpy(part, start, length);
  part[length] = '\0';
  memmove(walk->todo, start + length, strlen(start + length) + 1);
  return part;
}

static bool is_last(const struct walk *walk) { return walk->todo[strspn(walk->todo, "/")] == '\0'; }

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
    if (strcmp(part, "..") == 0) go_above(walk.done);
    else if (step(root, &walk, part, type, stubs) < 0) return -1;
  }
  if (walk.too_long) {
    errno = ENAMETOOLONG;
    return -1;
  }
  return open_inside(root, walk.done, O_PATH);
}

int target_open(int root, const char *path, enum target_type type, struct stub_list *stubs) {
  return open_target(root, path, type, stubs, 0);
}

int target_open_plain(int root, const char *path, struct stub_list *stubs) {
  return open_target(root, path, TARGET_FOLDER, stubs, MOST_SYMLINKS);
}

bool stubs_have(const struct stub_list *stubs, int fd) {
  struct stat status;
  if (fstat(fd, &status) < 0) return false;
  for (const struct stub *stub = stubs->newest; stub != NULL; stub = stub->next) {
    if (stub->inode == status.st_ino) return true;
  }
  return false;
}

static bool same_time(struct timespec a, struct timespec b) { return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec; }

void stubs_settle(struct stub_list *stubs) {
  for (struct stub *stub = stubs->newest; stub != NULL; stub = stub->next) {
    read_ctimes(stubs, stub->parent_path, stub->copied_up, stub->copy_ctimes);
  }
}

/* Copies that the sandbox has changed are the sandbox's own; they and what is above them stay. */
static void forget_changed_copies(const struct stub_list *stubs, struct stub *stub) {
  struct timespec now[MOST_COPIES];
  read_ctimes(stubs, stub->parent_path, stub->copied_up, now);
  for (unsigned i = 0; i < stub->copied_up; i++) {
    if (!same_time(now[i], stub->copy_ctimes[i])) stub->copied_up = i;
  }
}

static void remove_stub(const struct stub *stub) {
  struct stat before, status;
  if (fstat(stub->parent, &before) < 0) return;
  if (fstatat(stub->parent, stub->name, &status, AT_SYMLINK_NOFOLLOW) < 0) return;
  bool ours = status.st_ino == stub->inode && (stub->folder ? S_ISDIR(status.st_mode) : S_ISREG(status.st_mode));
  if (!ours || (!stub->folder && status.st_size != 0)) return;
  /* A folder that got content stays: it is not empty, and rmdir says so. */
  if (unlinkat(stub->parent, stub->name, stub->folder ? AT_REMOVEDIR : 0) < 0) return;
  struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, before.st_mtim};
  futimens(stub->parent, times);
}

void stubs_remove(struct stub_list *stubs) {
  for (struct stub *stub = stubs->newest; stub != NULL; stub = stub->next) forget_changed_copies(stubs, stub);
  for (struct stub *stub = stubs->newest; stub != NULL; stub = stub->next) {
    remove_stub(stub);
    close(stub->parent);
  }
}

/* Removes an empty copy from the upper folder; false where it is more than a copy. */
static bool drop_copy(const struct stub_list *stubs, const char *path) {
  char full[PATH_MAX], above[PATH_MAX];
  if (!in_upper(stubs, path, full)) return false;
  memcpy(above, full, sizeof full);
  go_above(above);
  struct stat status;
  if (lstat(above, &status) < 0) return false;
  /* An opaque copy hides what lies below: it is a change of its own. */
  char value;
  if (lgetxattr(full, "trusted.overlay.opaque", &value, 1) >= 0 || lgetxattr(full, "user.overlay.opaque", &value, 1) >= 0) {
    return false;
  }
  if (rmdir(full) < 0) return false;
  struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, status.st_mtim};
  utimensat(AT_FDCWD, above, times, AT_SYMLINK_NOFOLLOW);
  return true;
}

void stubs_drop_copies(struct stub_list *stubs) {
  for (struct stub *stub = stubs->newest; stub != NULL; stub = stub->next) {
    char at[PATH_MAX];
    snprintf(at, sizeof at, "%s", stub->parent_path);
    for (unsigned i = 0; i < stub->copied_up && drop_copy(stubs, at); i++) go_above(at);
  }
}
