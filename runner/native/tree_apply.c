/*
 * Changes a tree by a stream of operations: TreeOps.apply of core/native.ts.
 *
 * Orders: a root mount (rootmount.h), then operations, then u8 'z'. An operation is u8 kind, text path, and then
 *   'd' folder, 'e' folder where nothing is: attributes
 *   'f' file: attributes, then u8 'b', u64 size and the bytes, or u8 'h' and text host path
 *   'l' symlink: attributes, text target          'h' hard link: text target
 *   'n' node: attributes, u32 S_IF* type, u32 major, u32 minor
 *   'r' remove                                    'c' clear
 * Attributes: u32 mode, u32 uid, u32 gid, u8 whether a time follows, i64 seconds, u32 nanoseconds;
 *   u16 count of extended attributes, each text name and bytes value.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "commands.h"
#include "failure.h"
#include "rootmount.h"
#include "tree_attributes.h"
#include "tree_content.h"
#include "tree_made.h"
#include "tree_node.h"
#include "tree_path.h"
#include "tree_remove.h"
#include "wire.h"

/* The time of a folder, set when everything in it is made. */
struct folder_time {
  char *path;
  dev_t device;
  ino_t inode;
  struct timespec time;
};

struct apply {
  struct wire_in in;
  struct tree tree;
  struct made made;
  struct folder_time *times;
  size_t time_count, time_capacity;
};

static struct tree_place find(struct apply *apply, const char *path, bool make) {
  struct tree_place place;
  if (tree_find(&apply->tree, path, make, &place) < 0) tree_fail(path, "cannot open the folder that holds it");
  return place;
}

/* A place where something that is not a folder shall be: never the root. */
static struct tree_place find_for_new(struct apply *apply, const char *path) {
  struct tree_place place = find(apply, path, true);
  if (strcmp(place.name, ".") == 0) {
    errno = EISDIR;
    tree_fail(path, "the root of the tree can only be a folder");
  }
  return place;
}

/* Takes away what is in the way of a new entry. Folders may have been resolved through it: they are forgotten. */
static void make_way(struct apply *apply, const char *path, struct tree_place *place) {
  struct stat status;
  if (fstatat(place->folder, place->name, &status, AT_SYMLINK_NOFOLLOW) < 0) {
    if (errno == ENOENT) return;
    tree_fail(path, "cannot look at what is in the way");
  }
  if (remove_below(place->folder, place->name) < 0) tree_fail(path, "cannot remove what is in the way");
  if (S_ISDIR(status.st_mode) || S_ISLNK(status.st_mode)) {
    tree_forget(&apply->tree);
    *place = find(apply, path, true);
  }
}

static void remember_time(struct apply *apply, const char *path, const struct tree_place *place, struct timespec time) {
  struct stat status;
  if (fstatat(place->folder, place->name, &status, AT_SYMLINK_NOFOLLOW) < 0) tree_fail(path, "cannot look at the folder");
  if (apply->time_count == apply->time_capacity) {
    apply->time_capacity = apply->time_capacity == 0 ? 256 : apply->time_capacity * 2;
    apply->times = wire_grow(apply->times, apply->time_capacity * sizeof *apply->times);
  }
  char *copy = strdup(path);
  if (copy == NULL) fail(ENOMEM, "out-of-memory", NULL, "cannot allocate a path");
  apply->times[apply->time_count++] =
      (struct folder_time){.path = copy, .device = status.st_dev, .inode = status.st_ino, .time = time};
}

/* Sets the times of folders. One that was removed or replaced since, or lies elsewhere now, has no time to be set. */
static void set_times(struct apply *apply) {
  for (size_t i = 0; i < apply->time_count; i++) {
    const struct folder_time *due = &apply->times[i];
    struct tree_place place;
    struct stat status;
    if (tree_find(&apply->tree, due->path, false, &place) < 0) continue;
    if (fstatat(place.folder, place.name, &status, AT_SYMLINK_NOFOLLOW) < 0) continue;
    if (status.st_ino != due->inode || status.st_dev != due->device || !S_ISDIR(status.st_mode)) continue;
    struct timespec times[2] = {due->time, due->time};
    if (utimensat(place.folder, place.name, times, AT_SYMLINK_NOFOLLOW) < 0)
      tree_fail(due->path, "cannot set the time of the folder");
  }
}

static void apply_folder(struct apply *apply, const char *path, bool only_where_missing) {
  struct attributes attributes = attributes_read(&apply->in);
  struct tree_place place = find(apply, path, true);
  bool made = true;
  if (mkdirat(place.folder, place.name, 0700) < 0) {
    struct stat status;
    if (errno != EEXIST) tree_fail(path, "cannot make the folder");
    if (fstatat(place.folder, place.name, &status, AT_SYMLINK_NOFOLLOW) < 0) tree_fail(path, "cannot look at the name");
    made = !S_ISDIR(status.st_mode);
    if (made && !only_where_missing) {
      make_way(apply, path, &place);
      if (mkdirat(place.folder, place.name, 0700) < 0) tree_fail(path, "cannot make the folder");
    } else if (only_where_missing) {
      attributes_free(&attributes);
      return;
    }
  }
  attributes_set(&attributes, &place, (struct attributes_target){.type = S_IFDIR, .existed = !made, .path = path});
  if (attributes.timed) remember_time(apply, path, &place, attributes.time);
  made_add(&apply->made, &place);
  attributes_free(&attributes);
}

static int create(struct apply *apply, const char *path, struct tree_place *place) {
  int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
  int fd = openat(place->folder, place->name, flags, 0600);
  if (fd < 0 && errno == EEXIST) {
    make_way(apply, path, place);
    fd = openat(place->folder, place->name, flags, 0600);
  }
  if (fd < 0) tree_fail(path, "cannot make the file");
  return fd;
}

static void apply_file(struct apply *apply, const char *path) {
  struct attributes attributes = attributes_read(&apply->in);
  uint8_t kind = wire_u8(&apply->in);
  if (kind == 'b') {
    uint64_t size = wire_u64(&apply->in);
    struct tree_place place = find_for_new(apply, path);
    int fd = create(apply, path, &place);
    if (content_from_stream(fd, &apply->in, size) < 0) tree_fail(path, "cannot write the file");
    attributes_set(&attributes, &place, (struct attributes_target){.type = S_IFREG, .path = path});
    if (close(fd) < 0) tree_fail(path, "cannot write the file");
    made_add(&apply->made, &place);
  } else {
    char *source = wire_text(&apply->in);
    struct tree_place place = find_for_new(apply, path);
    int fd = create(apply, path, &place);
    if (content_from_host(fd, source) < 0) {
      bool full = errno == ENOSPC || errno == EDQUOT;
      tree_fail(full ? path : source, full ? "cannot write the file" : "cannot copy the file");
    }
    attributes_set(&attributes, &place, (struct attributes_target){.type = S_IFREG, .path = path});
    if (close(fd) < 0) tree_fail(path, "cannot write the file");
    made_add(&apply->made, &place);
    free(source);
  }
  attributes_free(&attributes);
}

static void apply_symlink(struct apply *apply, const char *path) {
  struct attributes attributes = attributes_read(&apply->in);
  char *target = wire_text(&apply->in);
  struct tree_place place = find_for_new(apply, path);
  if (symlinkat(target, place.folder, place.name) < 0) {
    if (errno != EEXIST) tree_fail(path, "cannot make the symlink");
    make_way(apply, path, &place);
    if (symlinkat(target, place.folder, place.name) < 0) tree_fail(path, "cannot make the symlink");
  }
  attributes_set(&attributes, &place, (struct attributes_target){.type = S_IFLNK, .path = path});
  made_add(&apply->made, &place);
  free(target);
  attributes_free(&attributes);
}

static bool same_file(const struct tree_place *a, const struct tree_place *b) {
  struct stat left, right;
  return fstatat(a->folder, a->name, &left, AT_SYMLINK_NOFOLLOW) == 0 &&
         fstatat(b->folder, b->name, &right, AT_SYMLINK_NOFOLLOW) == 0 && left.st_ino == right.st_ino &&
         left.st_dev == right.st_dev;
}

static void apply_hardlink(struct apply *apply, const char *path) {
  char *target = wire_text(&apply->in);
  find_for_new(apply, path);
  struct tree_place from = find(apply, target, false);
  /* The second look-up may push the first folder out of the cache: hold the target's folder by a descriptor of our own. */
  int held = fcntl(from.folder, F_DUPFD_CLOEXEC, 3);
  if (held < 0) tree_fail(target, "cannot hold the folder");
  from.folder = held;
  struct tree_place place = find_for_new(apply, path);
  if (linkat(from.folder, from.name, place.folder, place.name, 0) < 0) {
    if (errno != EEXIST) tree_fail(path, "cannot make the hard link");
    if (!same_file(&from, &place)) {
      make_way(apply, path, &place);
      if (linkat(from.folder, from.name, place.folder, place.name, 0) < 0) tree_fail(path, "cannot make the hard link");
    }
  }
  made_add(&apply->made, &place);
  close(held);
  free(target);
}

static void apply_node(struct apply *apply, const char *path) {
  struct attributes attributes = attributes_read(&apply->in);
  mode_t type = wire_u32(&apply->in) & S_IFMT;
  uint32_t major_number = wire_u32(&apply->in);
  uint32_t minor_number = wire_u32(&apply->in);
  if (type == S_IFREG || type == S_IFDIR || type == S_IFLNK) fail(0, "protocol", path, "not a type of node");
  dev_t device = makedev(major_number, minor_number);
  struct tree_place place = find_for_new(apply, path);
  if (node_make(&place, type, device) < 0) {
    if (errno != EEXIST) tree_fail(path, "cannot make the node");
    make_way(apply, path, &place);
    if (node_make(&place, type, device) < 0) tree_fail(path, "cannot make the node");
  }
  attributes_set(&attributes, &place, (struct attributes_target){.type = type, .path = path});
  made_add(&apply->made, &place);
  attributes_free(&attributes);
}

static bool is_absent(int error) { return error == ENOENT || error == ENOTDIR || error == ELOOP; }

static void apply_remove(struct apply *apply, const char *path) {
  struct tree_place place;
  if (tree_find(&apply->tree, path, false, &place) < 0) {
    if (is_absent(errno)) return;
    tree_fail(path, "cannot open the folder that holds it");
  }
  if (strcmp(place.name, ".") == 0) {
    errno = EINVAL;
    tree_fail(path, "the root of the tree cannot be removed");
  }
  struct stat status;
  if (fstatat(place.folder, place.name, &status, AT_SYMLINK_NOFOLLOW) < 0) {
    if (is_absent(errno)) return;
    tree_fail(path, "cannot look at it");
  }
  if (remove_below(place.folder, place.name) < 0) tree_fail(path, "cannot remove it");
  if (S_ISDIR(status.st_mode) || S_ISLNK(status.st_mode)) tree_forget(&apply->tree);
}

/*
 * Removes what this call did not make from the folder `fd`, which it closes. Returns whether something is left: a folder
 * that was not made but holds what was made stays.
 */
static bool clear_folder(struct apply *apply, int fd, const char *path) {
  struct stat status;
  DIR *stream = fdopendir(fd);
  if (stream == NULL || fstat(fd, &status) < 0) tree_fail(path, "cannot read the folder");
  bool left = false;
  struct dirent *entry;
  while ((errno = 0, entry = readdir(stream)) != NULL) {
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
    struct tree_place place = {.folder = fd, .device = status.st_dev, .inode = status.st_ino, .name = entry->d_name};
    bool made = made_has(&apply->made, &place);
    int below = openat(fd, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (below >= 0) {
      bool holds = clear_folder(apply, below, path);
      if (holds || made) {
        left = true;
        continue;
      }
    } else if (made) {
      left = true;
      continue;
    }
    if (remove_below(fd, entry->d_name) < 0) tree_fail(path, "cannot clear the folder");
  }
  if (errno != 0) tree_fail(path, "cannot read the folder");
  closedir(stream);
  return left;
}

static void apply_clear(struct apply *apply, const char *path) {
  struct tree_place place;
  if (tree_find(&apply->tree, path, false, &place) < 0) {
    if (is_absent(errno)) return;
    tree_fail(path, "cannot open the folder that holds it");
  }
  int fd = openat(place.folder, place.name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) {
    if (is_absent(errno)) return;
    tree_fail(path, "cannot open the folder");
  }
  clear_folder(apply, fd, path);
  tree_forget(&apply->tree);
}

static void apply_one(struct apply *apply, uint8_t kind, const char *path) {
  switch (kind) {
    case 'd': apply_folder(apply, path, false); break;
    case 'e': apply_folder(apply, path, true); break;
    case 'f': apply_file(apply, path); break;
    case 'l': apply_symlink(apply, path); break;
    case 'h': apply_hardlink(apply, path); break;
    case 'n': apply_node(apply, path); break;
    case 'r': apply_remove(apply, path); break;
    case 'c': apply_clear(apply, path); break;
    default: fail(0, "protocol", path, "operation of unknown kind %u", kind);
  }
}

int tree_apply_main(int argc, char **argv) {
  (void)argc;
  (void)argv;
  struct apply *apply = wire_allocate(sizeof *apply);
  umask(0);
  wire_in_init(&apply->in, STDIN_FILENO);
  struct root_mount root = root_mount_read(&apply->in);
  tree_init(&apply->tree, root_mount_open_tree(&root));
  uint8_t kind;
  while ((kind = wire_u8(&apply->in)) != 'z') {
    char *path = wire_text(&apply->in);
    apply_one(apply, kind, path);
    free(path);
  }
  set_times(apply);
  struct wire_out out;
  wire_out_init(&out, STDOUT_FILENO);
  wire_put_u8(&out, 'Z');
  wire_flush(&out);
  return 0;
}
