#define _GNU_SOURCE
#include "rootmount.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "failure.h"

/* fsconfig(2) takes strings of at most 255 bytes. */
#define LONGEST_PARAMETER 255

/* Options of mount(2) fit into one page. */
#define LONGEST_OPTIONS 4095

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
  root.lowers = wire_texts(in, &root.lower_count);
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

/* The last line that the file system left in its context's log, for the message. */
static void read_log(int context, char *text, size_t size) {
  text[0] = 0;
  char line[512];
  ssize_t got;
  while ((got = read(context, line, sizeof line - 1)) > 0) {
    line[got] = 0;
    snprintf(text, size, ": %s", line);
  }
  text[strcspn(text, "\n")] = 0;
}

/* The new mount API with one `lowerdir+` per folder (Linux 6.7). Returns -1 where the kernel does not know it. */
static int open_with_context(const struct root_mount *root) {
  int context = fsopen("overlay", FSOPEN_CLOEXEC);
  if (context < 0) {
    if (errno == ENOSYS) return -1;
    fail(errno, "mount-failed", NULL, "this kernel has no overlay file system for us");
  }
  char log[600];
  for (uint32_t i = 0; i < root->lower_count; i++) {
    if (set_folder(context, "lowerdir+", root->lowers[i]) == 0) continue;
    int error = errno;
    read_log(context, log, sizeof log);
    if (i == 0 && error == EINVAL && access(root->lowers[0], F_OK) == 0) {
      close(context);
      return -1;
    }
    fail(error, "mount-failed", root->lowers[i], "cannot use the folder as a lower layer%s", log);
  }
  if (root->upper != NULL) {
    if (set_folder(context, "upperdir", root->upper) < 0)
      fail(errno, "mount-failed", root->upper, "cannot use the folder as an upper layer");
    if (set_folder(context, "workdir", root->work) < 0)
      fail(errno, "mount-failed", root->work, "cannot use the folder as a work folder");
    clear_volatile_mark(root->work);
  }
  if (set_policy(context, root) < 0) fail(errno, "mount-failed", NULL, "cannot set the overlay's options");
  if (fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0) {
    int error = errno;
    read_log(context, log, sizeof log);
    fail(error, "mount-failed", root->upper, "cannot mount the overlay%s", log);
  }
  int mount_fd = fsmount(context, FSMOUNT_CLOEXEC, root->readonly ? MOUNT_ATTR_RDONLY : 0);
  if (mount_fd < 0) fail(errno, "mount-failed", root->upper, "cannot mount the overlay");
  close(context);
  return mount_fd;
}

/* Length of the longest folder prefix, ending in '/', that all lower folders share. */
static size_t common_prefix(const struct root_mount *root) {
  const char *first = root->lowers[0];
  size_t shared = strlen(first);
  for (uint32_t i = 1; i < root->lower_count; i++) {
    size_t same = 0;
    while (same < shared && root->lowers[i][same] == first[same]) same++;
    shared = same;
  }
  while (shared > 0 && first[shared - 1] != '/') shared--;
  return shared;
}

static void append(char *options, const char *text, bool escape) {
  size_t length = strlen(options);
  for (; *text != 0; text++) {
    if (escape && (*text == ':' || *text == '\\' || *text == ',') && length < LONGEST_OPTIONS) options[length++] = '\\';
    if (length >= LONGEST_OPTIONS)
      fail(E2BIG, "mount-failed", NULL, "too many layers for this kernel's mount call (Linux 6.7 has no such limit)");
    options[length++] = *text;
  }
  options[length] = 0;
}

/* mount(2) with all folders in one option string, relative to the folder that they share to keep it short. */
static int open_with_options(const struct root_mount *root) {
  char *options = wire_allocate(LONGEST_OPTIONS + 1);
  size_t prefix = common_prefix(root);
  int home = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (prefix > 0) {
    char *base = strndup(root->lowers[0], prefix);
    if (base == NULL || chdir(base) < 0) fail(errno, "mount-failed", base, "cannot enter the folder");
    free(base);
  }
  append(options, "lowerdir=", false);
  for (uint32_t i = 0; i < root->lower_count; i++) {
    if (i > 0) append(options, ":", false);
    const char *relative = root->lowers[i] + prefix;
    append(options, *relative == 0 ? "." : relative, true);
  }
  if (root->upper != NULL) {
    append(options, ",upperdir=", false);
    append(options, root->upper, true);
    append(options, ",workdir=", false);
    append(options, root->work, true);
    append(options, ",volatile", false);
    clear_volatile_mark(root->work);
  }
  append(options, ",metacopy=off,index=off,redirect_dir=", false);
  append(options, root->user_xattrs ? "nofollow,userxattr" : "off", false);

  /* mount(2) needs a place: a folder that only this mount is laid on, taken away as soon as it is cloned. */
  char place[] = "/tmp/varve-mount-XXXXXX";
  if (mkdtemp(place) == NULL) fail(errno, "mount-failed", place, "cannot make a folder to mount on");
  if (mount("overlay", place, "overlay", root->readonly ? MS_RDONLY : 0, options) < 0) {
    int error = errno;
    rmdir(place);
    fail(error, "mount-failed", root->upper, "cannot mount the overlay (%u layers)", root->lower_count);
  }
  int mount_fd = open_tree(AT_FDCWD, place, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
  int error = errno;
  umount2(place, MNT_DETACH);
  rmdir(place);
  if (mount_fd < 0) fail(error, "mount-failed", root->upper, "cannot clone the mount");
  if (home >= 0 && fchdir(home) == 0) close(home);
  free(options);
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

int root_mount_open(const struct root_mount *root) {
  if (root->type == ROOT_DIRECTORY) return open_directory(root);
  int mount_fd = open_with_context(root);
  return mount_fd >= 0 ? mount_fd : open_with_options(root);
}

int root_mount_open_tree(const struct root_mount *root) {
  if (root->type == ROOT_OVERLAY) return root_mount_open(root);
  int fd = open(root->directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) fail(errno, "mount-failed", root->directory, "cannot open the folder");
  return fd;
}
