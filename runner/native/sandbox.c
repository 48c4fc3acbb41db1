/*
 * varve-native sandbox: starts one process in a sandbox and stays as its supervisor, outside of it.
 *
 *   varve --(descriptor 3: spec and orders / records)--> supervisor --clone--> init (process 1) --fork--> the program
 *
 * Descriptors 0, 1 and 2 are the caller's ends of the program's standard streams; with inherited streams they are the streams.
 * Orders after the spec: 'S' u32 signal for the program; 'W' u16 columns, u16 rows; 'K' kill everything. The end of the stream
 * means that varve is dead: everything is killed, and what it left on the host is removed.
 * Records: those of sandbox_init.h but 'T' and 'A'; before the last one, where the root has traced diffs, what was read of them: 'O' or 'U'
 * of trace_mount.h; then for each mounted tree that has some, 'M', text target, and the same; then, where that was asked for and they are few,
 * the changes in the root's upper folder: 'D', bytes as scan-diff writes them. The one that ends the story ('E', 'F', 'N') is sent when
 * no process of the sandbox is left, all output has been delivered, and stubs are gone; this process ends when no mount is left either.
 * A file server (trace_server.h) that ends before the sandbox does takes it with it: 'F' with code `trace-lost`.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "commands.h"
#include "failure.h"
#include "sandbox_devices.h"
#include "sandbox_init.h"
#include "sandbox_network.h"
#include "sandbox_plan.h"
#include "sandbox_relay.h"
#include "sandbox_target.h"
#include "sandbox_traces.h"
#include "seal.h"
#include "tree_scan.h"
#include "user_namespace.h"

#define CODE "sandbox-setup"

#define CONTROL 3

#define LONGEST_RECORD ((size_t)16 * 1024)
#define END_RECORD ((size_t)5)

struct supervisor {
  struct sandbox_spec spec;
  struct wire_in orders;
  struct opened opened;
  struct traces traces;
  int cgroup;    /* of version 2, or -1 */
  int root_copy; /* for the stubs: outlives the sandbox's own mount of the root, and with it the file server */
  struct stub_list stubs;
  pid_t init;
  pid_t network; /* who gives the sandbox a way out, or 0 */
  int status;  /* our end of init's status socket */
  int signals; /* signalfd for SIGCHLD */
  int master;  /* of the terminal, or -1 */
  struct winsize size;
  bool orphaned;
  bool alone; /* init said that nothing but itself is left */
  bool ended; /* init was reaped */
  int init_status;
  struct relay in, out, err;
  unsigned char record[LONGEST_RECORD];
  size_t record_length;
};

static int open_bind(const struct mount_spec *mount) {
  int fd = open_tree(AT_FDCWD, mount->source, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
  if (fd < 0) fail(errno, CODE, mount->source, "cannot open the source of a mount");
  return fd;
}

static void adjust_mount(int fd, uint64_t attributes, const char *path) {
  struct mount_attr change = {.attr_set = attributes, .propagation = MS_PRIVATE};
  if (mount_setattr(fd, "", AT_EMPTY_PATH | AT_RECURSIVE, &change, sizeof change) < 0) {
    fail(errno, CODE, path, "cannot set the mode of a mount");
  }
}

/*
 * In a user namespace no device can be made, and a sysfs only where the network is the sandbox's own (sysfs(5)): those of the host are
 * shown, with the user's own rights to them.
 */
static void open_host_parts(struct supervisor *self) {
  struct opened *opened = &self->opened;
  opened->sys = -1;
  for (size_t i = 0; i < SANDBOX_DEVICES; i++) opened->devices[i] = -1;
  if (!is_in_user_namespace()) return;
  for (size_t i = 0; i < SANDBOX_DEVICES; i++) {
    char path[64];
    snprintf(path, sizeof path, "/%s", sandbox_device(i));
    opened->devices[i] = open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    if (opened->devices[i] < 0) fail(errno, CODE, path, "cannot open a device of the host");
  }
  if (self->spec.own_network) return;
  opened->sys = open_tree(AT_FDCWD, "/sys", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
  if (opened->sys < 0) fail(errno, CODE, "/sys", "cannot open the host's");
  adjust_mount(opened->sys, true, "/sys");
}

/* Opens everything that lies on the host, while paths still mean the host's files. */
static void open_sources(struct supervisor *self) {
  self->opened.root = trace_open_root(trace_of_root(&self->traces), &self->spec.root);
  if (self->spec.nodev) {
    struct mount_attr nodev = {.attr_set = MOUNT_ATTR_NODEV};
    if (mount_setattr(self->opened.root, "", AT_EMPTY_PATH, &nodev, sizeof nodev) < 0) fail(errno, CODE, "/", "cannot set nodev");
  }
  open_host_parts(self);
  self->opened.mounts = wire_allocate(self->spec.mount_count * sizeof *self->opened.mounts);
  for (uint32_t i = 0; i < self->spec.mount_count; i++) {
    const struct mount_spec *mount = &self->spec.mounts[i];
    int fd = -1;
    if (mount->type == MOUNT_BIND) fd = open_bind(mount);
    if (self->spec.nodev) self->spec.mounts[i].devices = false;
    if (mount->type == MOUNT_TREE) fd = trace_open_tree(trace_of_mount(&self->traces, i), &mount->tree);
    uint64_t attributes = (mount->readonly ? MOUNT_ATTR_RDONLY : 0) | (self->spec.nodev ? MOUNT_ATTR_NODEV : 0);
    if (fd >= 0) adjust_mount(fd, attributes, mount->target);
    self->opened.mounts[i] = fd;
  }
}

static void enter_cgroup(struct supervisor *self) {
  const char *path = self->spec.unified_cgroup;
  if (*path == '\0') return;
  self->cgroup = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (self->cgroup < 0) fail(errno, CODE, path, "cannot open the cgroup");
  /* A kernel without such filters, or a container without CAP_BPF: then no device node on the root opens at all. */
  if (self->spec.device_filter && !device_filter_attach(self->cgroup, self->spec.devices, self->spec.device_count)) self->spec.nodev = true;
}

/* Whether `path` lies below the target of an earlier mount, where the root's own folders are out of sight. */
static bool is_covered(const struct sandbox_spec *spec, uint32_t number, const char *path) {
  static const char *const OWN[] = {"proc", "sys", "dev"};
  for (size_t i = 0; i < 3; i++) {
    size_t length = strlen(OWN[i]);
    if (strncmp(path, OWN[i], length) == 0 && path[length] == '/') return true;
  }
  for (uint32_t i = 0; i < number; i++) {
    const char *above = spec->mounts[i].target;
    size_t length = strlen(above);
    if (strncmp(path, above, length) == 0 && path[length] == '/') return true;
  }
  return false;
}

/* What the place of a mount has to be. */
static enum target_type place_type(const struct mount_spec *mount, int opened) {
  if (mount->type == MOUNT_FILE) return TARGET_FILE;
  struct stat status;
  int source = opened;
  if (mount->type == MOUNT_TREE && *mount->source != '\0') {
    struct open_how how = {.flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
    source = (int)syscall(SYS_openat2, opened, mount->source, &how, sizeof how);
    if (source < 0) fail(errno, CODE, mount->source, "cannot open the source of a mount");
  }
  bool file = source >= 0 && fstat(source, &status) == 0 && !S_ISDIR(status.st_mode);
  if (source != opened) close(source);
  return file ? TARGET_FILE : TARGET_FOLDER;
}

/* A tmpfs has the mode of the folder that was there, as with runc: what is private stays so. */
static void settle_mode(const struct supervisor *self, struct mount_spec *mount, int place) {
  struct stat status;
  if (mount->type != MOUNT_TMPFS || mount->mode != MODE_OF_PLACE) return;
  if (stubs_have(&self->stubs, place) || fstat(place, &status) < 0) return;
  mount->mode = status.st_mode & 07777;
}

/* Makes the places for mounts which the root lacks, and remembers them, so that they do not stay in its diff. */
static void make_stubs(struct supervisor *self) {
  self->stubs.upper = self->spec.root.type == ROOT_OVERLAY ? self->spec.root.upper : NULL;
  if (self->spec.root.readonly && trace_of_root(&self->traces)->server == 0) return;
  self->root_copy = open_tree(self->opened.root, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
  /* Before Linux 6.15 a mount that is attached nowhere cannot be copied; the one mount then serves both. */
  if (self->root_copy < 0) self->root_copy = fcntl(self->opened.root, F_DUPFD_CLOEXEC, 0);
  if (self->spec.root.readonly) return;
  static const char *const OWN[] = {"proc", "sys", "dev"};
  for (size_t i = 0; i < 3; i++) {
    int fd = target_open_plain(self->root_copy, OWN[i], &self->stubs);
    if (fd >= 0) close(fd); /* a symlink here is refused by the set-up, with a better message */
  }
  for (uint32_t i = 0; i < self->spec.mount_count; i++) {
    const char *target = self->spec.mounts[i].target;
    if (is_covered(&self->spec, i, target)) continue;
    enum target_type type = place_type(&self->spec.mounts[i], self->opened.mounts[i]);
    int fd = target_open(self->root_copy, target, type, &self->stubs);
    if (fd < 0) fail(errno, CODE, target, "cannot open or make this place for a mount");
    settle_mode(self, &self->spec.mounts[i], fd);
    close(fd);
  }
  stubs_settle(&self->stubs);
}

/* A pipe for one of the program's streams; the user owns it, so that /dev/stdout can be opened again by name. */
static void stream_pipe(const struct supervisor *self, int ends[2]) {
  if (pipe2(ends, O_CLOEXEC) < 0) fail(errno, CODE, NULL, "cannot make a pipe");
  if (fchown(ends[0], self->spec.io_owner, (gid_t)-1) < 0) fail(errno, CODE, NULL, "cannot give away a pipe");
}

static void close_ends(struct standard_io io) {
  if (io.in >= 0) close(io.in);
  if (io.out >= 0) close(io.out);
  if (io.err >= 0) close(io.err);
}

static void start_init(struct supervisor *self) {
  struct standard_io io = {-1, -1, -1, false};
  int in[2], out[2], err[2], status[2];
  bool pipes = self->spec.io == IO_PIPE;
  if (pipes) {
    stream_pipe(self, out);
    stream_pipe(self, err);
    io.out = out[1];
    io.err = err[1];
    if (self->spec.has_stdin) {
      stream_pipe(self, in);
      io.in = in[0];
    }
  }
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, status) < 0) fail(errno, CODE, NULL, "cannot make a socket");
  struct plan plan = plan_sandbox(&self->spec, &self->opened);
  uint64_t flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | (self->spec.own_network ? CLONE_NEWNET : 0);
  struct clone_args arguments = {.flags = flags, .exit_signal = SIGCHLD};
  if (self->cgroup >= 0) {
    /* Born there rather than moved there: the kernel then need not stop every fork on the machine for it. */
    arguments.flags |= CLONE_INTO_CGROUP;
    arguments.cgroup = (uint64_t)self->cgroup;
  }
  self->init = (pid_t)syscall(SYS_clone3, &arguments, sizeof arguments);
  if (self->init < 0) fail(errno, CODE, NULL, "cannot make namespaces");
  if (self->init == 0) {
    close(status[0]);
    close(CONTROL);
    if (self->cgroup >= 0) close(self->cgroup);
    if (self->root_copy >= 0) close(self->root_copy);
    traces_close(&self->traces);
    for (struct stub *stub = self->stubs.newest; stub != NULL; stub = stub->next) close(stub->parent);
    sandbox_init(&self->spec, &plan, io, status[1]);
  }
  close(status[1]);
  close_ends(io);
  self->status = status[0];
  close(self->opened.root);
  for (uint32_t i = 0; i < self->spec.mount_count; i++) {
    if (self->opened.mounts[i] >= 0) close(self->opened.mounts[i]);
  }
  if (!pipes) return;
  relay_start(&self->out, out[0], 1);
  relay_start(&self->err, err[0], 2);
  if (self->spec.has_stdin) relay_start(&self->in, 0, in[1]);
}

/* Init waits for a byte where there is to be a network. */
static void open_network(struct supervisor *self) {
  if (self->spec.network_helper[0] == NULL) return;
  self->network = network_start(self->spec.network_helper, self->init);
  /* Nobody may hear it: an init that has gone is told of by its own words. */
  send(self->status, "N", 1, MSG_NOSIGNAL);
}

static void kill_all(struct supervisor *self) {
  if (self->ended) return;
  /* Process 1 takes the whole pid namespace with it, whatever sessions and signal handlers there are. */
  kill(self->init, SIGKILL);
  /* Afterwards, so that nobody lives to see files fail. A process that waits for a hanging server dies only with that. */
  traces_stop(&self->traces);
}

static void take_order(struct supervisor *self) {
  if (wire_ended(&self->orders)) {
    self->orphaned = true;
    kill_all(self);
    return;
  }
  switch (wire_u8(&self->orders)) {
    case 'S': {
      int number = (int)wire_u32(&self->orders);
      if (!self->ended) kill(self->init, number);
      return;
    }
    case 'W':
      self->size.ws_col = wire_u16(&self->orders);
      self->size.ws_row = wire_u16(&self->orders);
      if (self->master >= 0) ioctl(self->master, TIOCSWINSZ, &self->size);
      return;
    default: kill_all(self); return;
  }
}

static void take_terminal(struct supervisor *self, int master) {
  self->master = master;
  if (self->size.ws_col != 0) ioctl(master, TIOCSWINSZ, &self->size);
  int again = fcntl(master, F_DUPFD_CLOEXEC, 0);
  relay_start(&self->out, again, 1);
  int input = fcntl(master, F_DUPFD_CLOEXEC, 0);
  if (self->spec.has_stdin) relay_start(&self->in, 0, input);
  else close(input);
}

/* Takes what init reports: 'R' goes on at once, the end of the story waits until all is cleaned up. */
static void take_status(struct supervisor *self) {
  union {
    struct cmsghdr header;
    char space[CMSG_SPACE(sizeof(int))];
  } control;
  struct iovec data = {.iov_base = self->record + self->record_length, .iov_len = LONGEST_RECORD - self->record_length};
  struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  ssize_t got = recvmsg(self->status, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) {
    close(self->status);
    self->status = -1;
    return;
  }
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  if (header != NULL && header->cmsg_type == SCM_RIGHTS) {
    int master;
    memcpy(&master, CMSG_DATA(header), sizeof master);
    take_terminal(self, master);
  }
  self->record_length += (size_t)got;
  while (self->record_length > 0 && memchr("TRA", self->record[0], 3) != NULL) {
    if (self->record[0] == 'A') self->alone = true;
    if (self->record[0] == 'R' && send(CONTROL, "R", 1, MSG_NOSIGNAL) < 0) self->orphaned = true;
    memmove(self->record, self->record + 1, --self->record_length);
  }
}

static void take_signal(struct supervisor *self) {
  struct signalfd_siginfo info;
  if (read(self->signals, &info, sizeof info) < 0) return;
  if (waitpid(self->init, &self->init_status, WNOHANG) == self->init) self->ended = true;
  /* What the sandbox does without its files is worth nothing, and may look like success. */
  if (traces_reap(&self->traces) && !self->ended) kill(self->init, SIGKILL);
}

/* Whether nothing of the sandbox is left that could do anything: init has still its namespaces to take down. */
static bool is_over(const struct supervisor *self) { return self->ended || (self->alone && self->record_length >= END_RECORD); }

static void watch(struct supervisor *self) {
  enum { ORDERS, STATUS, SIGNALS, IN, OUT, ERR, TRACES };
  nfds_t all = TRACES + self->traces.count;
  struct pollfd *polled = wire_allocate(all * sizeof *polled);
  while (!is_over(self)) {
    polled[ORDERS] = (struct pollfd){.fd = self->orphaned ? -1 : CONTROL, .events = POLLIN};
    polled[STATUS] = (struct pollfd){.fd = self->status, .events = POLLIN};
    polled[SIGNALS] = (struct pollfd){.fd = self->signals, .events = POLLIN};
    polled[IN] = relay_interest(&self->in);
    polled[OUT] = relay_interest(&self->out);
    polled[ERR] = relay_interest(&self->err);
    traces_interest(&self->traces, polled + TRACES);
    bool waiting = self->orders.at < self->orders.end;
    if (poll(polled, all, waiting ? 0 : -1) < 0 && errno != EINTR) fail(errno, CODE, NULL, "cannot wait");
    traces_start_readers(&self->traces, polled + TRACES);
    if (waiting || polled[ORDERS].revents != 0) take_order(self);
    if (polled[STATUS].revents != 0) take_status(self);
    if (polled[IN].revents != 0) relay_move(&self->in);
    if (polled[OUT].revents != 0) relay_move(&self->out);
    if (polled[ERR].revents != 0) relay_move(&self->err);
    if (polled[SIGNALS].revents != 0) take_signal(self);
  }
  free(polled);
}

/* Writes out what the dead left in their pipes; a reader that is slow is waited for, one that is gone is not. */
static void drain(struct supervisor *self) {
  while (self->status >= 0) {
    size_t before = self->record_length;
    take_status(self);
    if (self->status >= 0 && self->record_length == before) break;
  }
  relay_close(&self->in);
  for (;;) {
    bool out = relay_drain(&self->out), err = relay_drain(&self->err);
    if ((out && err) || self->orphaned) break;
    struct pollfd polled[3] = {relay_interest(&self->out), relay_interest(&self->err), {.fd = CONTROL, .events = POLLIN}};
    if (out) polled[0].fd = -1;
    if (err) polled[1].fd = -1;
    if (poll(polled, 3, -1) < 0 && errno != EINTR) break;
    if (polled[2].revents != 0) take_order(self);
  }
  relay_close(&self->out);
  relay_close(&self->err);
}

/* Files at once. Folders are varve's to remove, which may still want to know what a cgroup tells, but for one that is dead. */
static void remove_leftovers(const struct supervisor *self, bool with_folders) {
  for (char **path = self->spec.leftovers; *path != NULL; path++) {
    if (unlink(*path) == 0 || (errno != EISDIR && errno != EPERM) || !with_folders) continue;
    /* A cgroup is busy for a moment after its last process was reaped. */
    for (int i = 0; i < 100 && rmdir(*path) < 0 && errno == EBUSY; i++) usleep(10 * 1000);
  }
}

static void tell_changes(struct supervisor *self) {
  const struct root_mount *root = &self->spec.root;
  if (!self->spec.tell_changes || root->type != ROOT_OVERLAY || root->readonly) return;
  struct wire_out changes, out;
  wire_out_init(&changes, -1);
  if (!tree_scan_few(&changes, root->upper, root->user_xattrs)) return;
  wire_out_init(&out, CONTROL);
  wire_put_u8(&out, 'D');
  wire_put_bytes(&out, changes.buffer, (uint32_t)changes.length);
  if (send(CONTROL, out.buffer, out.length, MSG_NOSIGNAL) < 0) self->orphaned = true;
}

/* The record of the end: init's own, or, where init was killed before it could write one, the signal that did it. */
static void tell_end(struct supervisor *self) {
  if (self->record_length == 0) {
    self->record[0] = 'E';
    for (int i = 0; i < 4; i++) self->record[1 + i] = (unsigned char)((unsigned)self->init_status >> (8 * i));
    self->record_length = END_RECORD;
  }
  if (send(CONTROL, self->record, self->record_length, MSG_NOSIGNAL) < 0) self->orphaned = true;
}

/* What is left when all has been told: the namespaces with their mounts, and with these the copy of the root. */
static void end_quietly(struct supervisor *self) {
  if (self->root_copy >= 0) close(self->root_copy);
  if (!self->ended) waitpid(self->init, &self->init_status, 0);
  struct pollfd varve = {.fd = CONTROL};
  remove_leftovers(self, self->orphaned || (poll(&varve, 1, 0) > 0 && (varve.revents & POLLHUP) != 0));
}

static void prepare(struct supervisor *self) {
  signal(SIGPIPE, SIG_IGN);
  sigset_t all, child;
  sigfillset(&all);
  /* Blocked in init and its child too, from their first instruction on. */
  sigprocmask(SIG_SETMASK, &all, NULL);
  sigemptyset(&child);
  sigaddset(&child, SIGCHLD);
  self->signals = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
  if (self->signals < 0) fail(errno, CODE, NULL, "cannot watch signals");
}

int sandbox_main(int argc, char **argv) {
  failure_stream(CONTROL);
  if (argc < 2 || strcmp(argv[1], SEALED) != 0) {
    seal("sandbox");
    fail(errno, errno == EPERM ? "no-sandbox" : CODE, NULL, "cannot start from a read-only view");
  }
  /* What the caller forgot to mark close-on-exec ends here. */
  close_range(CONTROL + 1, ~0U, 0);
  fcntl(CONTROL, F_SETFD, FD_CLOEXEC);
  prctl(PR_SET_NAME, "varve-sandbox", 0, 0, 0);
  umask(022);

  struct supervisor *self = wire_allocate(sizeof *self);
  self->cgroup = -1;
  self->root_copy = -1;
  self->master = -1;
  self->in.from = self->in.to = self->out.from = self->out.to = self->err.from = self->err.to = -1;
  wire_in_init(&self->orders, CONTROL);
  self->spec = sandbox_spec_read(&self->orders);
  self->traces = traces_of(self->spec.mount_count);
  prepare(self);
  enter_cgroup(self);
  open_sources(self);
  make_stubs(self);
  for (uint32_t i = 0; i < self->spec.mount_count; i++) {
    struct mount_spec *mount = &self->spec.mounts[i];
    if (mount->type == MOUNT_TMPFS && mount->mode == MODE_OF_PLACE) mount->mode = 01777;
  }
  start_init(self);
  open_network(self);
  watch(self);
  drain(self);
  traces_unblock(&self->traces);
  network_end(self->network);
  stubs_remove(&self->stubs);
  /* Nobody sees the root any more, mounted though it still is. */
  stubs_drop_copies(&self->stubs);
  if (!traces_tell(&self->traces, &self->spec, CONTROL, self->signals)) {
    fail(0, "trace-lost", NULL, "the file server that shows the traced layers has ended too early");
  }
  tell_changes(self);
  tell_end(self);
  end_quietly(self);
  return 0;
}
