#define _GNU_SOURCE
#include "sandbox_setup.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "failure.h"
#include "sandbox_spec.h"
#include "sandbox_target.h"

#define CODE "sandbox-setup"

struct setup {
  int root;
  struct terminal terminal;
};

static void join_cgroup(const char *procs) {
  int fd = open(procs, O_WRONLY | O_CLOEXEC);
  if (fd < 0 || write(fd, "0", 1) != 1) fail(errno, CODE, procs, "cannot join the cgroup");
  close(fd);
}

static void loopback_up(void) {
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  struct ifreq request = {.ifr_flags = IFF_UP | IFF_RUNNING};
  strcpy(request.ifr_name, "lo");
  if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &request) < 0) fail(errno, CODE, NULL, "cannot bring up the loopback interface");
  close(fd);
}

/* Places a detached mount on an open folder or file: no path is looked up any more that a symlink could bend. */
static void place(int mount, int target, const char *path) {
  if (move_mount(mount, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0) {
    fail(errno, CODE, path, "cannot mount here");
  }
  close(mount);
  close(target);
}

static int open_place(const struct setup *setup, const struct operation *operation, enum target_type type) {
  int target = operation->plain ? target_open_plain(setup->root, operation->target, NULL)
                                : target_open(setup->root, operation->target, type, NULL);
  if (target >= 0) return target;
  if (operation->plain && errno == ELOOP) fail(errno, CODE, operation->target, "a symbolic link in the image takes this place");
  fail(errno, CODE, operation->target, "cannot open or make this place for a mount");
}

static int new_mount(const char *type, const struct mount_option *options, uint64_t attributes, const char *path) {
  int context = fsopen(type, FSOPEN_CLOEXEC);
  if (context < 0) fail(errno, CODE, path, "the kernel has no file system %s", type);
  fsconfig(context, FSCONFIG_SET_STRING, "source", type, 0);
  for (size_t i = 0; i < 3 && options != NULL && options[i].name != NULL; i++) {
    unsigned command = options[i].value == NULL ? FSCONFIG_SET_FLAG : FSCONFIG_SET_STRING;
    if (fsconfig(context, command, options[i].name, options[i].value, 0) < 0) {
      fail(errno, CODE, path, "%s does not take %s", type, options[i].name);
    }
  }
  if (fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0) fail(errno, CODE, path, "cannot make a %s", type);
  int mount = fsmount(context, FSMOUNT_CLOEXEC, (unsigned)attributes);
  if (mount < 0) fail(errno, CODE, path, "cannot mount a %s", type);
  close(context);
  return mount;
}

static void mount_file_system(const struct setup *setup, const struct operation *operation) {
  int mount = new_mount(operation->source, operation->options, operation->attributes, operation->target);
  place(mount, open_place(setup, operation, TARGET_FOLDER), operation->target);
}

static void set_attributes(int mount, uint64_t attributes, unsigned flags, const char *path) {
  struct mount_attr change = {.attr_set = attributes};
  if (mount_setattr(mount, "", AT_EMPTY_PATH | flags, &change, sizeof change) < 0) {
    fail(errno, CODE, path, "cannot make the mount read-only");
  }
}

/* In /dev, a tmpfs of our own: there for a moment of the set-up only. */
#define STAGE "dev/varve-stage"

/*
 * A part of the detached mount `mount`, as a detached mount of its own; `mount` is closed. Symlinks on the way are followed as if the
 * mount were `/`. Before Linux 6.15 only what is attached can be cloned, so the mount is attached for that long.
 */
static int clone_inside(const struct setup *setup, int mount, const char *path, const char *target) {
  if (mkdirat(setup->root, STAGE, 0700) < 0) fail(errno, CODE, STAGE, "cannot make a place for a mount");
  int stage = openat(setup->root, STAGE, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (stage < 0) fail(errno, CODE, STAGE, "cannot open a place for a mount");
  if (move_mount(mount, "", stage, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0) fail(errno, CODE, target, "cannot mount");
  close(stage);
  struct open_how how = {.flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
  int inside = (int)syscall(SYS_openat2, mount, path, &how, sizeof how);
  if (inside < 0) fail(errno, CODE, path, "cannot open the source of a mount");
  int clone = open_tree(inside, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
  if (clone < 0) fail(errno, CODE, target, "cannot copy the mount");
  close(inside);
  if (fchdir(mount) < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0) fail(errno, CODE, target, "cannot let go of a mount");
  close(mount);
  if (unlinkat(setup->root, STAGE, AT_REMOVEDIR) < 0) fail(errno, CODE, STAGE, "cannot remove a place for a mount");
  return clone;
}

static void place_opened(const struct setup *setup, const struct operation *operation) {
  int mount = operation->fd;
  if (*operation->source != '\0') mount = clone_inside(setup, mount, operation->source, operation->target);
  struct stat status;
  if (fstat(mount, &status) < 0) fail(errno, CODE, operation->target, "cannot look at what is mounted here");
  enum target_type type = S_ISDIR(status.st_mode) ? TARGET_FOLDER : TARGET_FILE;
  place(mount, open_place(setup, operation, type), operation->target);
}

/* A read-only file in a file system of its own in memory: no other path leads to it, and it ends with the sandbox. */
static void place_file(const struct setup *setup, const struct operation *operation) {
  static const char NAME[] = "file";
  static const struct mount_option PRIVATE[3] = {{"mode", "700"}};
  const struct mount_spec *mount = operation->mount;
  const uint64_t attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
  int memory = new_mount("tmpfs", PRIVATE, attributes, operation->target);
  int file = openat(memory, NAME, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (file < 0) fail(errno, CODE, operation->target, "cannot make the file");
  for (uint32_t at = 0; at < mount->content_size;) {
    ssize_t wrote = write(file, mount->content + at, mount->content_size - at);
    if (wrote < 0) fail(errno, CODE, operation->target, "cannot write the file");
    at += (uint32_t)wrote;
  }
  if (fchown(file, mount->uid, mount->gid) < 0 && errno == EINVAL) {
    fail(0, "unmapped-id", operation->target, "user %u or group %u is none that this user may use", mount->uid, mount->gid);
  }
  if (fchown(file, mount->uid, mount->gid) < 0 || fchmod(file, mount->mode) < 0) {
    fail(errno, CODE, operation->target, "cannot set the file's owner and mode");
  }
  close(file);
  int clone = clone_inside(setup, memory, NAME, operation->target);
  set_attributes(clone, MOUNT_ATTR_RDONLY, 0, operation->target);
  place(clone, open_place(setup, operation, TARGET_FILE), operation->target);
}

/* /dev is our own fresh tmpfs: nothing in it can be a trap. */
static void make_node(const struct setup *setup, const struct operation *operation) {
  dev_t device = makedev(operation->major, operation->minor);
  if (mknodat(setup->root, operation->target, S_IFCHR | operation->mode, device) < 0) {
    fail(errno, CODE, operation->target, "cannot make the device");
  }
}

/* Opens an existing path without following any symlink; -1 where there is none. */
static int find(const struct setup *setup, const char *path) {
  int fd = openat(setup->root, path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0 && errno != ENOENT && errno != ENOTDIR) fail(errno, CODE, path, "cannot open");
  return fd;
}

static int copy_mount(int from, const char *path) {
  int copy = open_tree(from, "", AT_EMPTY_PATH | AT_RECURSIVE | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
  if (copy < 0) fail(errno, CODE, path, "cannot copy the mount");
  return copy;
}

static void hide(const struct setup *setup, const char *path) {
  int target = find(setup, path);
  if (target < 0) return;
  struct stat status;
  if (fstat(target, &status) < 0) fail(errno, CODE, path, "cannot look at");
  if (S_ISDIR(status.st_mode)) {
    static const struct mount_option EMPTY[3] = {{"size", "0k"}, {"nr_inodes", "1"}};
    place(new_mount("tmpfs", EMPTY, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC, path),
          target, path);
    return;
  }
  int null = find(setup, "dev/null");
  if (null < 0) fail(ENOENT, CODE, "dev/null", "cannot open");
  int copy = copy_mount(null, path);
  close(null);
  place(copy, target, path);
}

static void make_readonly(const struct setup *setup, const char *path) {
  int target = find(setup, path);
  if (target < 0) return;
  int copy = copy_mount(target, path);
  set_attributes(copy, MOUNT_ATTR_RDONLY, AT_RECURSIVE, path);
  place(copy, target, path);
}

static void attach_root(struct setup *setup, int root) {
  /* On top of `/`, which exists everywhere; look-ups by this process go on seeing the old root until it moves. */
  if (move_mount(root, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) < 0) fail(errno, CODE, "/", "cannot attach the root");
  setup->root = root;
}

static void make_folder(const struct setup *setup, const char *path) {
  int folder = target_open(setup->root, path, TARGET_FOLDER, NULL);
  if (folder < 0) fail(errno, CODE, path, "cannot make the working directory");
  close(folder);
}

/* pty(7): the master's number names the slave, and TIOCGPTPEER opens it without a path. */
static void open_terminal(struct setup *setup) {
  int master = openat(setup->root, "dev/pts/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
  int unlock = 0;
  if (master < 0 || ioctl(master, TIOCSPTLCK, &unlock) < 0) fail(errno, CODE, "dev/pts/ptmx", "cannot open a terminal");
  int slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (slave < 0) fail(errno, CODE, "dev/pts/ptmx", "cannot open the other side of the terminal");
  setup->terminal = (struct terminal){.master = master, .slave = slave};
  /* Docker shows the terminal at /dev/console too. */
  unsigned number = 0;
  char path[32];
  if (ioctl(master, TIOCGPTN, &number) < 0) fail(errno, CODE, "dev/pts", "cannot name the terminal");
  snprintf(path, sizeof path, "dev/pts/%u", number);
  int node = find(setup, path);
  if (node < 0) fail(ENOENT, CODE, path, "cannot open the terminal");
  int copy = copy_mount(node, path);
  close(node);
  int console = target_open(setup->root, "dev/console", TARGET_FILE, NULL);
  if (console < 0) fail(errno, CODE, "dev/console", "cannot make the console");
  place(copy, console, "dev/console");
}

static void pivot(const struct setup *setup) {
  /* `.` for both: the old root ends up on top of the new one at `/`, and is then taken off; no folder is needed to hold it. */
  if (fchdir(setup->root) < 0) fail(errno, CODE, "/", "cannot enter the root");
  if (syscall(SYS_pivot_root, ".", ".") < 0) fail(errno, CODE, "/", "cannot change the root");
  /* Detached with everything below: no `..` and no open folder leads back, since none is kept. */
  if (umount2(".", MNT_DETACH) < 0) fail(errno, CODE, "/", "cannot let go of the old root");
  if (chdir("/") < 0) fail(errno, CODE, "/", "cannot enter the root");
}

static void carry_out(struct setup *setup, const struct operation *operation) {
  switch (operation->type) {
    case OP_PRIVATE_PROPAGATION:
      if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) fail(errno, CODE, "/", "cannot make mounts private");
      return;
    case OP_JOIN_CGROUP: join_cgroup(operation->source); return;
    case OP_CGROUP_NAMESPACE:
      if (unshare(CLONE_NEWCGROUP) < 0) fail(errno, CODE, NULL, "cannot make a cgroup namespace");
      return;
    case OP_HOSTNAME:
      if (sethostname(operation->source, strlen(operation->source)) < 0) {
        fail(errno, CODE, operation->source, "cannot set the host name");
      }
      return;
    case OP_LOOPBACK_UP: loopback_up(); return;
    case OP_ATTACH_ROOT: attach_root(setup, operation->fd); return;
    case OP_MOUNT: mount_file_system(setup, operation); return;
    case OP_PLACE: place_opened(setup, operation); return;
    case OP_FILE: place_file(setup, operation); return;
    case OP_NODE: make_node(setup, operation); return;
    case OP_LINK:
      if (symlinkat(operation->source, setup->root, operation->target) < 0) {
        fail(errno, CODE, operation->target, "cannot make the symbolic link");
      }
      return;
    case OP_FOLDER: make_folder(setup, operation->target); return;
    case OP_PTMX_OPEN: open_terminal(setup); return;
    case OP_HIDE: hide(setup, operation->target); return;
    case OP_READONLY: make_readonly(setup, operation->target); return;
    case OP_READONLY_ROOT: set_attributes(setup->root, MOUNT_ATTR_RDONLY, 0, "/"); return;
    case OP_PIVOT: pivot(setup); return;
  }
}

struct terminal setup_sandbox(const struct plan *plan) {
  struct setup setup = {.root = -1, .terminal = {.master = -1, .slave = -1}};
  umask(0);
  for (size_t i = 0; i < plan->count; i++) carry_out(&setup, &plan->operations[i]);
  close(setup.root);
  return setup.terminal;
}
