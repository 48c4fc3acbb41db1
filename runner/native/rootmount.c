#define _GNU_SOURCE
#include "rootmount.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "failure.h"
#include "trace_manifest.h"

/* fsconfig(2) takes strings of at most 255 bytes. */
#define LONGEST_PARAMETER 255

/* Options of mount(2) fit into one page. */
#define LONGEST_OPTIONS 4095

static const char *code_of(int error) { return error == ENOSPC || error == EDQUOT ? "disk-full" : "mount-failed"; }

/* Adds a folder that is not among the first `count` lowers. */
static void add_lower(struct root_mount *root, char *folder, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) {
    if (strcmp(root->lowers[i], folder) == 0) return;
  }
  root->lowers[root->lower_count++] = folder;
}

/* `fs` in a data folder. */
static char *files_of(const char *home) {
  char *files;
  if (asprintf(&files, "%s/fs", home) < 0) fail(ENOMEM, "out-of-memory", NULL, "cannot name a folder");
  return files;
}

/* The folders of the traced diffs, with those that patches stand on, and what lies below them. */
static void join_lowers(struct root_mount *root) {
  size_t most = (size_t)root->traced_count * 2 + root->below_count;
  root->lowers = wire_allocate((most + 1) * sizeof *root->lowers);
  for (uint32_t i = 0; i < root->traced_count; i++) {
    add_lower(root, files_of(root->traced[i]), root->lower_count);
    char *original = manifest_original(root->traced[i]);
    if (original != NULL) add_lower(root, files_of(original), root->lower_count);
    free(original);
  }
  uint32_t above = root->lower_count;
  for (uint32_t i = 0; i < root->below_count; i++) add_lower(root, root->below[i], above);
}

struct root_mount root_mount_read(struct wire_in *in) {
  struct root_mount root = {.type = ROOT_DIRECTORY};
  uint8_t type = wire_u8(in);
  if (type == 'D') {
    root.directory = wire_text(in);
    root.readonly = wire_u8(in) != 0;
    return root;
  }
  if (type != 'O') fail(0, "protocol", NULL, "root mount of unknown type %u", type);
  root.type = ROOT_OVERLAY;
  root.below = wire_texts(in, &root.below_count);
  root.traced = wire_texts(in, &root.traced_count);
  join_lowers(&root);
  if (wire_u8(in) != 0) {
    root.upper = wire_text(in);
    root.work = wire_text(in);
  }
  root.readonly = root.upper == NULL;
  root.user_xattrs = wire_u8(in) != 0;
  if (root.lower_count == 0) fail(0, "protocol", NULL, "an overlay without a lower folder");
  return root;
}

/*
 * A volatile overlay leaves a mark in its work folder that forbids the next mount, because a crash may have lost data. Our
 * upper folders do not outlive a crash, so the mark of an earlier mount in the same life is taken away.
 */
static void clear_volatile_mark(const char *work) {
  int fd = open(work, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  unlinkat(fd, "work/incompat/volatile/dirty", 0);
  unlinkat(fd, "work/incompat/volatile", AT_REMOVEDIR);
  unlinkat(fd, "work/incompat", AT_REMOVEDIR);
  close(fd);
}

static int set_text(int context, const char *key, const char *value) {
  return fsconfig(context, FSCONFIG_SET_STRING, key, value, 0);
}

/* Sets a parameter that is a folder; one whose path is too long for fsconfig goes by way of a descriptor. */
static int set_folder(int context, const char *key, const char *path) {
  if (strlen(path) <= LONGEST_PARAMETER) return set_text(context, key, path);
  int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return -1;
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  int result = set_text(context, key, link);
  int error = errno;
  close(fd);
  errno = error;
  return result;
}

/* Pins what a distribution's module options could change: the diff must not depend on the machine's defaults. */
static int set_policy(int context, const struct root_mount *root) {
  if (set_text(context, "redirect_dir", root->user_xattrs ? "nofollow" : "off") < 0) return -1;
  if (set_text(context, "metacopy", "off") < 0 || set_text(context, "index", "off") < 0) return -1;
  if (root->user_xattrs && fsconfig(context, FSCONFIG_SET_FLAG, "userxattr", NULL, 0) < 0) return -1;
  if (root->upper == NULL) return 0;
  return fsconfig(context, FSCONFIG_SET_FLAG, "volatile", NULL, 0);
}

/* What a file system context says of its last failure, for the message. */
static char context_log[512];

static void read_log(int context) {
  char line[sizeof context_log - 2];
  context_log[0] = 0;
  ssize_t got;
  while ((got = read(context, line, sizeof line - 1)) > 0) {
    line[got] = 0;
    line[strcspn(line, "\n")] = 0;
    snprintf(context_log, sizeof context_log, ": %s", line);
  }
}

/* No mount in the place of the traced diffs: they are lower folders like the others. */
#define NO_TOP (-1)

struct folders {
  char *const *paths;
  uint32_t count;
};

/* Topmost first. */
static struct folders lowers_of(const struct root_mount *root, int top) {
  if (top == NO_TOP) return (struct folders){.paths = root->lowers, .count = root->lower_count};
  return (struct folders){.paths = root->below, .count = root->below_count};
}

/*
 * The topmost lower is a mount of another file system. With xino a file has the same device and inode number as if all were one file
 * system, before and after it is copied up: `du -x` and `tar` go by them.
 */
static int set_top(int context, int top) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", top);
  return set_text(context, "lowerdir+", link) < 0 ? -1 : set_text(context, "xino", "on");
}

/* Sets all parameters and creates the file system. Returns the path or the word to blame, or NULL. */
static const char *configure(int context, const struct root_mount *root, int top) {
  if (top != NO_TOP && set_top(context, top) < 0) return "the file server";
  struct folders lowers = lowers_of(root, top);
  for (uint32_t i = 0; i < lowers.count; i++) {
    if (set_folder(context, "lowerdir+", lowers.paths[i]) < 0) return lowers.paths[i];
  }
  if (root->upper != NULL) {
    if (set_folder(context, "upperdir", root->upper) < 0) return root->upper;
    if (set_folder(context, "workdir", root->work) < 0) return root->work;
    clear_volatile_mark(root->work);
  }
  if (set_policy(context, root) < 0) return "its options";
  if (fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0) return root->upper != NULL ? root->upper : root->lowers[0];
  return NULL;
}

/*
 * The new mount API with one `lowerdir+` per folder (Linux 6.7). Returns -1 where the kernel may not know that: it then
 * says EINVAL, at the parameter or, where the overlay still takes options as one string (before Linux 6.5), at the end.
 */
static int open_with_context(const struct root_mount *root, int top) {
  int context = fsopen("overlay", FSOPEN_CLOEXEC);
  if (context < 0) {
    if (errno == ENOSYS || top != NO_TOP) return -1;
    fail(errno, "mount-failed", NULL, "cannot use the overlay file system");
  }
  const char *blamed = configure(context, root, top);
  int error = errno;
  if (blamed != NULL) {
    read_log(context);
    if (error != EINVAL && top == NO_TOP) fail(error, code_of(error), blamed, "cannot mount the overlay%s", context_log);
    close(context);
    errno = error;
    return -1;
  }
  int mount_fd = fsmount(context, FSMOUNT_CLOEXEC, root->readonly ? MOUNT_ATTR_RDONLY : 0);
  if (mount_fd < 0) fail(errno, "mount-failed", root->upper, "cannot mount the overlay");
  close(context);
  return mount_fd;
}

/* The folders of an overlay, held open while it is mounted: lower ones first, then upper and work. */
struct layers {
  int *fds;
  uint32_t count;
};

static int open_layer(struct layers *layers, const char *path) {
  int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) fail(errno, "mount-failed", path, "cannot open a folder of the overlay");
  layers->fds[layers->count++] = fd;
  return fd;
}

/* None may be left to a sandbox: they lead out of it. */
static void close_layers(struct layers *layers) {
  for (uint32_t i = 0; i < layers->count; i++) close(layers->fds[i]);
  free(layers->fds);
}

static void append(char *options, const char *format, int number) {
  size_t length = strlen(options);
  int size = snprintf(options + length, LONGEST_OPTIONS + 1 - length, format, number);
  if (size < 0 || length + (size_t)size > LONGEST_OPTIONS)
    fail(E2BIG, "mount-failed", NULL, "too many layers for the mount call of this kernel");
}

/* The options of mount(2), for a process whose working folder is /proc/self/fd: a descriptor is the shortest name of a folder. */
static char *options_of(const struct root_mount *root, int top, struct layers *layers) {
  char *options = wire_allocate(LONGEST_OPTIONS + 1);
  if (top != NO_TOP) append(options, "lowerdir=%d", top);
  struct folders lowers = lowers_of(root, top);
  for (uint32_t i = 0; i < lowers.count; i++) {
    append(options, *options == '\0' ? "lowerdir=%d" : ":%d", open_layer(layers, lowers.paths[i]));
  }
  if (root->upper != NULL) {
    append(options, ",upperdir=%d", open_layer(layers, root->upper));
    append(options, ",workdir=%d,volatile", open_layer(layers, root->work));
    clear_volatile_mark(root->work);
  }
  append(options, root->user_xattrs ? ",userxattr,redirect_dir=nofollow" : ",redirect_dir=off", 0);
  append(options, top == NO_TOP ? ",metacopy=off,index=off" : ",metacopy=off,index=off,xino=on", 0);
  return options;
}

/* From here on this process sees mounts of its own, which end with it. Its working folder is outside of them. */
static void leave_mounts(void) {
  if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
    fail(errno, "mount-failed", NULL, "cannot have a mount namespace of our own");
}

/*
 * mount(2) with all folders in one option string. It needs a place in a mount namespace: one of the lower folders, in a
 * namespace of our own, so that not even kill -9 leaves the mount behind; then the mount is cloned out of it. -1 with errno where
 * an overlay over `top` is refused; without one that is a failure.
 */
static int open_with_options(const struct root_mount *root, int top) {
  int home = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (home < 0) fail(errno, "mount-failed", NULL, "cannot hold the working folder");
  struct layers layers = {.fds = wire_allocate((root->lower_count + 2) * sizeof(int))};
  char *options = options_of(root, top, &layers);
  if (chdir("/proc/self/fd") < 0) fail(errno, "mount-failed", "/proc", "cannot enter the list of our descriptors");
  const char *place = root->lowers[root->lower_count - 1];
  int mount_fd = -1;
  int error = 0;
  if (mount("overlay", place, "overlay", root->readonly ? MS_RDONLY : 0, options) < 0) {
    error = errno;
    if (top == NO_TOP)
      fail(error, code_of(error), root->upper, "cannot mount the overlay of %u layers%s", root->lower_count, context_log);
  } else {
    mount_fd = open_tree(AT_FDCWD, place, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    if (mount_fd < 0) fail(errno, "mount-failed", place, "cannot clone the mount");
    umount2(place, MNT_DETACH);
  }
  if (fchdir(home) < 0) fail(errno, "mount-failed", NULL, "cannot go back to the working folder");
  close(home);
  close_layers(&layers);
  free(options);
  errno = error;
  return mount_fd;
}

/*
 * Before Linux 6.15 a layer must lie in the mount namespace of this process, so `top` is put on the topmost traced folder, in a
 * namespace of our own, for as long as it takes to mount the overlay.
 */
static int open_on_attached(const struct root_mount *root, int top) {
  const char *place = root->lowers[0];
  leave_mounts();
  if (move_mount(top, "", AT_FDCWD, place, MOVE_MOUNT_F_EMPTY_PATH) < 0) return -1;
  int attached = open(place, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (attached < 0) return -1;
  int mount_fd = open_with_context(root, attached);
  if (mount_fd < 0 && errno == EINVAL) mount_fd = open_with_options(root, attached);
  int error = errno;
  close(attached);
  umount2(place, MNT_DETACH);
  errno = error;
  return mount_fd;
}

static int open_directory(const struct root_mount *root) {
  int mount_fd = open_tree(AT_FDCWD, root->directory, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
  if (mount_fd < 0) fail(errno, "mount-failed", root->directory, "cannot clone the folder as a mount");
  if (root->readonly) {
    struct mount_attr attributes = {.attr_set = MOUNT_ATTR_RDONLY};
    if (mount_setattr(mount_fd, "", AT_EMPTY_PATH, &attributes, sizeof attributes) < 0)
      fail(errno, "mount-failed", root->directory, "cannot make the mount read-only");
  }
  return mount_fd;
}

/*
 * An overlay that cannot make what it needs in its work folder is mounted read-only, with a word in the kernel's log alone: most often
 * since the disk is full. Returns `mount_fd`.
 */
static int expect_writable(const struct root_mount *root, int mount_fd) {
  struct statvfs status;
  if (mount_fd < 0 || root->upper == NULL || fstatvfs(mount_fd, &status) < 0 || (status.f_flag & ST_RDONLY) == 0) return mount_fd;
  int work = open(root->work, O_PATH | O_DIRECTORY | O_CLOEXEC);
  int error = mkdirat(work, "probe", 0700) < 0 ? errno : EROFS;
  if (error == EROFS) unlinkat(work, "probe", AT_REMOVEDIR);
  fail(error, code_of(error), root->work, "the overlay is read-only: its work folder cannot be used");
}

int root_mount_open(const struct root_mount *root) {
  if (root->type == ROOT_DIRECTORY) return open_directory(root);
  int mount_fd = open_with_context(root, NO_TOP);
  if (mount_fd >= 0) return expect_writable(root, mount_fd);
  leave_mounts();
  return expect_writable(root, open_with_options(root, NO_TOP));
}

int root_mount_open_on(const struct root_mount *root, int top) {
  int mount_fd = open_with_context(root, top);
  if (mount_fd < 0 && errno == EINVAL) mount_fd = open_on_attached(root, top);
  int error = errno;
  expect_writable(root, mount_fd);
  errno = error;
  return mount_fd;
}

int root_mount_open_tree(const struct root_mount *root) {
  if (root->type == ROOT_OVERLAY) return root_mount_open(root);
  int fd = open(root->directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) fail(errno, "mount-failed", root->directory, "cannot open the folder");
  return fd;
}
