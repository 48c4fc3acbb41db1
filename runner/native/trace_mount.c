#define _GNU_SOURCE
#include "trace_mount.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "capabilities.h"
#include "failure.h"
#include "trace_server.h"
#include "tree_path.h"
#include "wire.h"

/* How long the end of the server may take, and how soon it is asked again: it may just have been about to wait for a question. */
#define LONGEST_END_MS 10000
#define ASK_AGAIN_MS 2

static volatile int stop_asked;

static void ask_stop(int number) {
  (void)number;
  stop_asked = 1;
}

/* Tells the supervisor that the tree is ready, with no bytes but one, or why it cannot be. */
static void tell_ready(int ready, const char *problem) {
  const char *text = problem == NULL ? "R" : problem;
  if (write(ready, text, strlen(text)) < 0) _exit(FAILURE_STATUS);
  close(ready);
  if (problem != NULL) _exit(0);
}

/* All that the server needs of the process that it was forked from; everything else is closed. */
struct server_ends {
  int fuse, ready, report, orders;
};

static struct server_ends keep_ends(struct server_ends ends) {
  enum { FUSE = 0, READY = 1, REPORT = 2, ORDERS = 3 };
  /* Moved out of the way first: none of them may be closed by another's dup2. */
  int fuse = fcntl(ends.fuse, F_DUPFD, 10), ready = fcntl(ends.ready, F_DUPFD, 10), report = fcntl(ends.report, F_DUPFD, 10);
  int orders = fcntl(ends.orders, F_DUPFD, 10);
  if (fuse < 0 || ready < 0 || report < 0 || orders < 0) _exit(FAILURE_STATUS);
  if (dup2(fuse, FUSE) < 0 || dup2(ready, READY) < 0 || dup2(report, REPORT) < 0) _exit(FAILURE_STATUS);
  if (dup2(orders, ORDERS) < 0) _exit(FAILURE_STATUS);
  close_range(ORDERS + 1, ~0U, 0);
  return (struct server_ends){FUSE, READY, REPORT, ORDERS};
}

/*
 * What the reader has open of the mount keeps that alive, so it is killed before the end is awaited. It has no descriptor of
 * /dev/fuse: whatever it waits for ends with the server.
 */
static _Noreturn void be_reader(const struct trace *trace, pid_t supervisor) {
  enum { ORDERS = 0, MOUNT = 1 };
  /* Before it asks for anything. */
  *trace->known = getpid();
  if (capabilities_keep_reading() < 0) _exit(FAILURE_STATUS);
  if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 || getppid() != supervisor) _exit(FAILURE_STATUS);
  prctl(PR_SET_NAME, "varve-ahead", 0, 0, 0);
  int from = fcntl(trace->orders, F_DUPFD, 10), mount_fd = fcntl(trace->top, F_DUPFD, 10);
  if (from < 0 || mount_fd < 0 || dup2(from, ORDERS) < 0 || dup2(mount_fd, MOUNT) < 0) _exit(FAILURE_STATUS);
  close_range(MOUNT + 1, ~0U, 0);
  trace_ahead_read(ORDERS, MOUNT);
}

struct view {
  const struct root_mount *root;
  bool alone; /* see struct trace_tree */
};

static _Noreturn void be_server(struct view view, struct server_ends ends, const volatile pid_t *reader, pid_t supervisor) {
  const struct root_mount *root = view.root;
  /* Questions come from whatever runs in the sandbox. Before the request: a change of capabilities may undo it. */
  if (capabilities_keep_reading() < 0) _exit(FAILURE_STATUS);
  /* A supervisor that died before the request is no parent any more. */
  if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 || getppid() != supervisor) _exit(FAILURE_STATUS);
  prctl(PR_SET_NAME, "varve-files", 0, 0, 0);
  ends = keep_ends(ends);
  failure_stream(ends.report);
  struct sigaction action = {.sa_handler = ask_stop};
  sigset_t term;
  sigemptyset(&term);
  sigaddset(&term, SIGTERM);
  sigaction(SIGTERM, &action, NULL);
  sigprocmask(SIG_UNBLOCK, &term, NULL);

  signal(SIGPIPE, SIG_IGN);
  tree_allow_many_files();
  struct trace_server *server = wire_allocate(sizeof *server);
  server->fuse = ends.fuse;
  server->ahead = (struct trace_ahead){.orders = ends.orders, .reader = reader};
  server->prefix = root->user_xattrs ? "user.overlay." : "trusted.overlay.";
  trace_record_init(&server->record);
  server->tree.alone = view.alone;
  const char *problem = trace_tree_build(&server->tree, root->traced, root->traced_count);
  if (problem == NULL && !trace_content_init(&server->content, root->traced, root->traced_count)) {
    problem = "the files of a traced layer cannot be opened";
  }
  tell_ready(ends.ready, problem);
  /* The root is looked at with every path, and its attributes may come from an upper folder that repeats them. */
  trace_observe(&server->record, server->tree.root, USE_METADATA | USE_ATTRIBUTES, 0);
  if (!trace_serve(server, &stop_asked)) _exit(FAILURE_STATUS);
  trace_record_write(&server->record, ends.report);
  _exit(0);
}

/* Like fail, for what can be done without. Always -1. */
static int untraced(struct trace *trace, int error, const char *what) {
  if (error == 0) snprintf(trace->untraced, sizeof trace->untraced, "%s", what);
  else snprintf(trace->untraced, sizeof trace->untraced, "%s: %s", what, strerror(error));
  return -1;
}

/*
 * Read-only is the superblock, not only the mount: the kernel then knows that no access moves a file's time, and does not
 * ask for attributes again after each read. Under an overlay that judges by modes itself, and must be able to look at all, the kernel does
 * not ask who may do what; where there is none it has to.
 */
static int mount_fuse(struct trace *trace, int fuse, bool alone) {
  char descriptor[16];
  snprintf(descriptor, sizeof descriptor, "%d", fuse);
  const char *const options[][2] = {{"source", "varve"}, {"subtype", "varve"}, {"fd", descriptor},   {"rootmode", "40755"},
                                    {"user_id", "0"},    {"group_id", "0"},    {"allow_other", NULL}, {"ro", NULL}};
  int context = fsopen("fuse", FSOPEN_CLOEXEC);
  if (context < 0) return untraced(trace, errno, "this kernel has no FUSE");
  int result = 0;
  for (size_t i = 0; i < sizeof options / sizeof options[0] && result == 0; i++) {
    unsigned command = options[i][1] == NULL ? FSCONFIG_SET_FLAG : FSCONFIG_SET_STRING;
    result = fsconfig(context, command, options[i][0], options[i][1], 0);
  }
  if (result == 0 && alone) result = fsconfig(context, FSCONFIG_SET_FLAG, "default_permissions", NULL, 0);
  if (result == 0) result = fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
  int mount_fd = result == 0 ? fsmount(context, FSMOUNT_CLOEXEC, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOATIME) : -1;
  int error = errno;
  close(context);
  return mount_fd >= 0 ? mount_fd : untraced(trace, error, "a FUSE file system cannot be mounted");
}

/* Waits until the server has read the manifests. No problem begins with an R. */
static bool await_ready(struct trace *trace, int ready) {
  char text[256];
  size_t length = 0;
  ssize_t got;
  while ((got = read(ready, text + length, sizeof text - 1 - length)) != 0) {
    if (got < 0 && errno != EINTR) break;
    if (got > 0) length += (size_t)got;
    if (length > 0 && text[0] == 'R') return true;
  }
  text[length] = '\0';
  untraced(trace, 0, length == 0 ? "the file server could not be started" : text);
  return false;
}

static void close_orders(struct trace *trace) {
  if (trace->orders >= 0) close(trace->orders);
  if (trace->top >= 0) close(trace->top);
  trace->orders = trace->top = -1;
}

void trace_start_reader(struct trace *trace) {
  pid_t supervisor = getpid();
  trace->reader = fork();
  if (trace->reader == 0) be_reader(trace, supervisor);
  /* Without one the program reads everything itself. */
  close_orders(trace);
}

static void end_reader(struct trace *trace) {
  close_orders(trace);
  if (trace->reader <= 0) return;
  kill(trace->reader, SIGKILL);
  waitpid(trace->reader, NULL, 0);
  trace->reader = 0;
}

static void forget_server(struct trace *trace) {
  end_reader(trace);
  if (trace->server > 0) {
    kill(trace->server, SIGKILL);
    waitpid(trace->server, NULL, 0);
  }
  if (trace->report >= 0) close(trace->report);
  trace->server = 0;
  trace->report = -1;
}

/* What it takes to start a reader later. */
static bool keep_orders(struct trace *trace, int top, int ends[2]) {
  trace->known = mmap(NULL, sizeof *trace->known, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (trace->known == MAP_FAILED || pipe2(ends, O_CLOEXEC) < 0) return false;
  trace->orders = ends[0];
  trace->top = fcntl(top, F_DUPFD_CLOEXEC, 0);
  return trace->top >= 0 && fcntl(ends[1], F_SETFL, O_NONBLOCK) == 0;
}

/* True where the server runs and has the only descriptor of /dev/fuse. */
static bool start_server(struct trace *trace, struct view view, int fuse, int top) {
  int ready[2], orders[2];
  trace->report = memfd_create("varve-trace", MFD_CLOEXEC);
  if (trace->report < 0 || pipe2(ready, O_CLOEXEC) < 0 || !keep_orders(trace, top, orders)) {
    untraced(trace, errno, "the file server could not be started");
    return false;
  }
  pid_t supervisor = getpid();
  struct server_ends ends = {fuse, ready[1], trace->report, orders[1]};
  trace->server = fork();
  if (trace->server == 0) be_server(view, ends, trace->known, supervisor);
  int error = errno;
  close(orders[1]);
  close(ready[1]);
  bool started = trace->server > 0 ? await_ready(trace, ready[0]) : untraced(trace, error, "the file server could not be started") == 0;
  close(ready[0]);
  return started;
}

/* The mount of a file server that runs; -1 where there is none. */
static int open_served(struct trace *trace, struct view view) {
  int fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC);
  if (fuse < 0) return untraced(trace, errno, "/dev/fuse cannot be opened");
  int top = mount_fuse(trace, fuse, view.alone);
  bool started = top >= 0 && start_server(trace, view, fuse, top);
  /* From here on the server's death is the end of the file system: nobody can wait for it in vain. */
  close(fuse);
  if (started) return top;
  forget_server(trace);
  if (top >= 0) close(top);
  return -1;
}

static int open_traced(struct trace *trace, const struct root_mount *root) {
  int top = open_served(trace, (struct view){.root = root});
  if (top < 0) return -1;
  int mount_fd = root_mount_open_on(root, top);
  if (mount_fd < 0) {
    untraced(trace, errno, "an overlay over the file server cannot be mounted");
    forget_server(trace);
  }
  close(top);
  return mount_fd;
}

static bool is_traced(const struct root_mount *root) { return root->type == ROOT_OVERLAY && root->traced_count > 0; }

struct trace trace_none(void) { return (struct trace){.report = -1, .orders = -1, .top = -1}; }

void trace_close(const struct trace *trace) {
  if (trace->report >= 0) close(trace->report);
  if (trace->orders >= 0) close(trace->orders);
  if (trace->top >= 0) close(trace->top);
}

int trace_open_root(struct trace *trace, const struct root_mount *root) {
  *trace = trace_none();
  int mount_fd = is_traced(root) ? open_traced(trace, root) : -1;
  return mount_fd >= 0 ? mount_fd : root_mount_open(root);
}

int trace_open_tree(struct trace *trace, const struct root_mount *root) {
  *trace = trace_none();
  int mount_fd = is_traced(root) && root->readonly ? open_served(trace, (struct view){.root = root, .alone = true}) : -1;
  return mount_fd >= 0 ? mount_fd : root_mount_open(root);
}

bool trace_reap(struct trace *trace) {
  if (trace->server <= 0 || waitpid(trace->server, &trace->status, WNOHANG) != trace->server) return false;
  trace->server = 0;
  return true;
}

void trace_stop(struct trace *trace) {
  trace->stopped = true;
  close_orders(trace);
  if (trace->reader > 0) kill(trace->reader, SIGKILL);
  if (trace->server > 0) kill(trace->server, SIGKILL);
}

void trace_unblock(struct trace *trace) {
  if (trace->server <= 0) return;
  char path[64], line[256];
  snprintf(path, sizeof path, "/proc/%d/stat", (int)trace->server);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;
  ssize_t got = read(fd, line, sizeof line - 1);
  close(fd);
  line[got < 0 ? 0 : got] = '\0';
  const char *end = strrchr(line, ')');
  if (end != NULL && (end[2] == 'T' || end[2] == 't')) kill(trace->server, SIGKILL);
}

static long now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000L + now.tv_nsec / 1000000L;
}

/*
 * Nobody has a question any more. The server would end by itself with the mount; that takes its time, and a process outside of the sandbox
 * that was given a descriptor of a file in it can keep it from happening.
 */
static void await_end(struct trace *trace, int signals) {
  long start = now_ms();
  while (trace->server > 0 && !trace_reap(trace)) {
    bool overdue = now_ms() - start > LONGEST_END_MS;
    kill(trace->server, overdue ? SIGKILL : SIGTERM);
    struct pollfd polled = {.fd = signals, .events = POLLIN};
    struct signalfd_siginfo info;
    if (poll(&polled, 1, ASK_AGAIN_MS) > 0 && read(signals, &info, sizeof info) < 0) continue;
  }
}

static bool send_all(int control, const void *bytes, size_t size) {
  for (size_t done = 0; done < size;) {
    ssize_t sent = send(control, (const char *)bytes + done, size - done, MSG_NOSIGNAL);
    if (sent < 0 && errno != EINTR) return false;
    if (sent > 0) done += (size_t)sent;
  }
  return true;
}

static void tell_untraced(int control, const char *reason) {
  struct wire_out out;
  wire_out_init(&out, control);
  wire_put_u8(&out, 'U');
  wire_put_text(&out, reason);
  send_all(control, out.buffer, out.length);
}

/* A reader that has gone is found out when the end is told. */
static void send_report(int control, int report) {
  static char bytes[64 * 1024];
  off_t at = 0;
  ssize_t got;
  while ((got = pread(report, bytes, sizeof bytes, at)) > 0) {
    if (!send_all(control, bytes, (size_t)got)) return;
    at += got;
  }
}

bool trace_tell(struct trace *trace, int control, int signals) {
  if (trace->report < 0) {
    if (trace->untraced[0] != '\0') tell_untraced(control, trace->untraced);
    return true;
  }
  end_reader(trace);
  await_end(trace, signals);
  bool whole = WIFEXITED(trace->status) && WEXITSTATUS(trace->status) == 0;
  char first = 0;
  if (trace->stopped) tell_untraced(control, "the step was stopped");
  else if (whole) send_report(control, trace->report);
  else if (pread(trace->report, &first, 1, 0) == 1 && first == 'F') {
    /* The server's own words, which end the story. */
    send_report(control, trace->report);
    _exit(FAILURE_STATUS);
  }
  close(trace->report);
  return whole || trace->stopped;
}
