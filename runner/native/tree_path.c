#define _GNU_SOURCE
#include "tree_path.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "failure.h"
#include "wire.h"

/* The kernel's own limit of symlinks on one look-up. */
#define MOST_LINKS 40

/* Tries of a look-up that the kernel cannot vouch for because somebody renames at the same time. */
#define MOST_TRIES 64

/* A piece of a path that surely fits into one call. */
#define PIECE (PATH_MAX - 1)

#define FOLDER_FLAGS (O_PATH | O_DIRECTORY | O_CLOEXEC)

void tree_fail(const char *path, const char *what) {
  int error = errno;
  fail(error, error == ENOSPC || error == EDQUOT ? "disk-full" : "tree-io", path, "%s", what);
}

void tree_allow_many_files(void) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) < 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

void tree_init(struct tree *tree, int root) {
  tree_allow_many_files();
  memset(tree, 0, sizeof *tree);
  tree->root = root;
  for (size_t i = 0; i < TREE_FOLDERS; i++) tree->folders[i].fd = -1;
}

void tree_forget(struct tree *tree) {
  for (size_t i = 0; i < TREE_FOLDERS; i++) {
    struct tree_folder *folder = &tree->folders[i];
    if (folder->fd < 0) continue;
    close(folder->fd);
    free(folder->path);
    folder->fd = -1;
    folder->path = NULL;
  }
}

/* Length of the longest piece of `path`, cut at a slash, that one call takes; 0 where a single part is too long. */
static size_t piece_length(const char *path, size_t length) {
  if (length <= PIECE) return length;
  size_t cut = PIECE;
  while (cut > 0 && path[cut] != '/') cut--;
  return cut;
}

static int open_piece(int root, const char *piece) {
  struct open_how how = {.flags = FOLDER_FLAGS, .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
  for (int tries = 0; tries < MOST_TRIES; tries++) {
    int fd = (int)syscall(SYS_openat2, root, *piece == 0 ? "." : piece, &how, sizeof how);
    if (fd >= 0 || errno != EAGAIN) return fd;
  }
  return -1;
}

/* Opens `name` in `folder`, which it closes, without following it. */
static int step_into(int folder, const char *name) {
  int next = openat(folder, name, FOLDER_FLAGS | O_NOFOLLOW);
  int error = errno;
  close(folder);
  errno = error;
  return next;
}

/*
 * The folder at the first `length` bytes of `path`. Beyond PATH_MAX the parts are opened one by one, and symlinks among
 * these are refused: a look-up of its own would have another root.
 */
static int open_folder(int root, const char *path, size_t length) {
  char piece[PATH_MAX];
  size_t done = piece_length(path, length);
  memcpy(piece, path, done);
  piece[done] = 0;
  int fd = open_piece(root, piece);
  while (fd >= 0 && done < length) {
    const char *part = path + done + 1;
    size_t size = strcspn(part, "/");
    if (size > length - done - 1) size = length - done - 1;
    if (size > NAME_MAX) {
      close(fd);
      errno = ENAMETOOLONG;
      return -1;
    }
    memcpy(piece, part, size);
    piece[size] = 0;
    fd = step_into(fd, piece);
    done += size + 1;
  }
  return fd;
}

static char *join(const char *folder, size_t folder_length, const char *name) {
  size_t size = strlen(name);
  char *path = wire_allocate(folder_length + size + 2);
  memcpy(path, folder, folder_length);
  path[folder_length] = '/';
  memcpy(path + folder_length + 1, name, size);
  return path;
}

static int make_folder(int root, const char *path, size_t length, int links);

/* What a dangling symlink points to is made, inside the root, as mkdir -p would behind chroot. */
static int make_link_target(int root, const char *path, size_t parent_length, int links) {
  const char *name = path + (parent_length == 0 ? 0 : parent_length + 1);
  int parent = open_folder(root, path, parent_length);
  if (parent < 0) return -1;
  char target[PATH_MAX];
  char last[NAME_MAX + 1];
  size_t size = strcspn(name, "/");
  memcpy(last, name, size);
  last[size] = 0;
  ssize_t got = readlinkat(parent, last, target, sizeof target - 1);
  close(parent);
  if (got < 0) {
    errno = ENOTDIR;
    return -1;
  }
  target[got] = 0;
  char *whole = target[0] == '/' ? strdup(target + strspn(target, "/")) : join(path, parent_length, target);
  if (whole == NULL) return -1;
  int fd = make_folder(root, whole, strlen(whole), links - 1);
  int error = errno;
  free(whole);
  errno = error;
  return fd;
}

static int make_in(int parent, const char *name) {
  if (mkdirat(parent, name, 0755) < 0) return -1;
  if (geteuid() == 0 && fchownat(parent, name, 0, 0, AT_SYMLINK_NOFOLLOW) < 0) return -1;
  if (fchmodat(parent, name, 0755, 0) < 0) return -1;
  return openat(parent, name, FOLDER_FLAGS | O_NOFOLLOW);
}

/* The folder at the first `length` bytes of `path`, made where it is missing. */
static int make_folder(int root, const char *path, size_t length, int links) {
  while (length > 0 && path[length - 1] == '/') length--;
  int fd = open_folder(root, path, length);
  if (fd >= 0 || errno != ENOENT || length == 0) return fd;
  if (links == 0) {
    errno = ELOOP;
    return -1;
  }
  size_t parent_length = length;
  while (parent_length > 0 && path[parent_length - 1] != '/') parent_length--;
  const char *name = path + parent_length;
  if (parent_length > 0) parent_length--;
  size_t size = length - (size_t)(name - path);
  if (size > NAME_MAX) {
    errno = ENAMETOOLONG;
    return -1;
  }
  int parent = make_folder(root, path, parent_length, links);
  if (parent < 0) return -1;
  char last[NAME_MAX + 1];
  memcpy(last, name, size);
  last[size] = 0;
  fd = make_in(parent, last);
  int error = errno;
  close(parent);
  if (fd < 0 && error == EEXIST) {
    /* A part that is `.` or `..` exists as soon as the folder before it does. */
    fd = open_folder(root, path, length);
    if (fd >= 0 || errno != ENOENT) return fd;
    return make_link_target(root, path, parent_length, links);
  }
  errno = error;
  return fd;
}

static size_t hash(const char *text, size_t length) {
  uint64_t value = 14695981039346656037U;
  for (size_t i = 0; i < length; i++) value = (value ^ (unsigned char)text[i]) * 1099511628211U;
  return (size_t)(value % TREE_FOLDERS);
}

static int find_folder(struct tree *tree, const char *path, size_t length, bool make, struct tree_folder **found) {
  struct tree_folder *slot = &tree->folders[hash(path, length)];
  if (slot->fd < 0 || strlen(slot->path) != length || memcmp(slot->path, path, length) != 0) {
    int fd = make ? make_folder(tree->root, path, length, MOST_LINKS) : open_folder(tree->root, path, length);
    if (fd < 0) return -1;
    struct stat status;
    if (fstat(fd, &status) < 0) tree_fail(path, "cannot look at the folder");
    if (slot->fd >= 0) {
      close(slot->fd);
      free(slot->path);
    }
    *slot = (struct tree_folder){.path = strndup(path, length), .fd = fd, .device = status.st_dev, .inode = status.st_ino};
    if (slot->path == NULL) fail(ENOMEM, "out-of-memory", NULL, "cannot allocate a path");
  }
  *found = slot;
  return 0;
}

int tree_find(struct tree *tree, const char *path, bool make, struct tree_place *place) {
  const char *slash = strrchr(path, '/');
  const char *name = slash == NULL ? path : slash + 1;
  size_t length = slash == NULL ? 0 : (size_t)(slash - path);
  bool refused = strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || (*name == 0 && *path != 0);
  if (refused || strlen(name) > NAME_MAX) {
    errno = refused ? EINVAL : ENAMETOOLONG;
    return -1;
  }
  struct tree_folder *folder;
  if (find_folder(tree, path, length, make, &folder) < 0) return -1;
  *place = (struct tree_place){
      .folder = folder->fd, .device = folder->device, .inode = folder->inode, .name = *name == 0 ? "." : name};
  return 0;
}

int host_open_folder(const char *path, int flags) {
  size_t length = strlen(path);
  char piece[PATH_MAX];
  int fd = AT_FDCWD;
  for (;;) {
    size_t size = piece_length(path, length);
    if (size == 0) size = length < PIECE ? length : PIECE;
    memcpy(piece, path, size);
    piece[size] = 0;
    bool last = size == length;
    int next = openat(fd, piece, (last ? flags : O_PATH) | O_DIRECTORY | O_CLOEXEC);
    int error = errno;
    if (fd >= 0) close(fd);
    errno = error;
    if (next < 0 || last) return next;
    fd = next;
    path += size + 1;
    length -= size + 1;
  }
}

int host_open_file(const char *path, int flags) {
  size_t length = strlen(path);
  if (length <= PIECE) return open(path, flags | O_NOFOLLOW | O_CLOEXEC);
  const char *slash = strrchr(path, '/');
  char *folder = strndup(path, slash == NULL ? 0 : (size_t)(slash - path));
  if (folder == NULL) return -1;
  int parent = host_open_folder(folder, O_PATH);
  free(folder);
  if (parent < 0) return -1;
  int fd = openat(parent, slash + 1, flags | O_NOFOLLOW | O_CLOEXEC);
  int error = errno;
  close(parent);
  errno = error;
  return fd;
}
