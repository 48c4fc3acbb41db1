#define _GNU_SOURCE
#include "sandbox_init.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "failure.h"
#include "proc_file.h"
#include "sandbox_setup.h"
#include "sandbox_userns.h"

#define CODE "sandbox-setup"

/*
 * The sandbox dies with its supervisor. A supervisor that died before the request cannot be seen by getppid, which is 0 in a new
 * pid namespace; its end of the status socket is closed then.
 */
static void die_with_parent(int status) {
  if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0) fail(errno, CODE, NULL, "cannot bind the sandbox to its supervisor");
  struct pollfd parent = {.fd = status};
  if (poll(&parent, 1, 0) > 0 && (parent.revents & (POLLHUP | POLLERR))) _exit(FAILURE_STATUS);
}

static void pass_descriptor(int status, int fd) {
  char type = 'T';
  struct iovec data = {.iov_base = &type, .iov_len = 1};
  union {
    struct cmsghdr header;
    char space[CMSG_SPACE(sizeof(int))];
  } control = {0};
  struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  control.header = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
  memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
  if (sendmsg(status, &message, MSG_NOSIGNAL) != 1) fail(errno, CODE, NULL, "cannot hand over the terminal");
}

static bool is_null(int fd) {
  struct stat status;
  return fstat(fd, &status) == 0 && S_ISCHR(status.st_mode) && status.st_rdev == makedev(1, 3);
}

/*
 * The host's /dev/null would let the program change the host's node through fchmod; it gets the sandbox's own. The same file, so
 * nothing else is different.
 */
static int own_null(int fd, int given) {
  if (fd >= 0 && !is_null(fd)) return given;
  int null = open("/dev/null", O_RDWR | O_NOFOLLOW | O_CLOEXEC);
  if (null < 0) fail(errno, CODE, "/dev/null", "cannot open");
  /* A mount of the user can take the place of /dev: the program shall not get a file there with our rights. */
  if (!is_null(null)) fail(0, CODE, "/dev/null", "no null device in the place of one");
  return null;
}

static struct standard_io settle_io(struct standard_io io, const struct sandbox_spec *spec, struct terminal terminal) {
  if (spec->io == IO_TERMINAL) {
    /* Owned by the user, so that programs may open it again by name; the group stays tty. */
    if (fchown(terminal.slave, spec->io_owner, (gid_t)-1) < 0) fail(errno, CODE, NULL, "cannot give away the terminal");
    return (struct standard_io){terminal.slave, terminal.slave, terminal.slave, true};
  }
  if (spec->io == IO_INHERIT) return (struct standard_io){own_null(0, -1), own_null(1, -1), own_null(2, -1), false};
  if (io.in < 0) io.in = own_null(-1, -1);
  return io;
}

static void put(int status, const void *bytes, size_t size) {
  if (send(status, bytes, size, MSG_NOSIGNAL) != (ssize_t)size) _exit(FAILURE_STATUS);
}

/*
 * From here on this process shares a pid namespace with the program: it keeps no descriptor but `status` and `failures`, no
 * capability but the one to pass signals on, and cannot be read or traced (not dumpable).
 */
static void lower_guard(int status, int failures) {
  int adjust = proc_open("self/oom_score_adj");
  /* Memory limits shall hit the program. Refused where the caller may not lower the value; then init is as good a victim as any. */
  if (adjust >= 0 && write(adjust, "-1000", 5) < 0 && errno != EACCES && errno != EPERM) fail(errno, CODE, NULL, "oom_score_adj");
  if (dup2(status, 0) < 0 || dup2(failures, 1) < 0) fail(errno, CODE, NULL, "cannot keep descriptors");
  close_range(2, ~0U, 0);
  failure_stream(0);
  if (capabilities_keep_kill() < 0) fail(errno, CODE, NULL, "cannot drop capabilities");
}

/* Waits until the program was executed. A record of its failure is passed on as it is. */
static void await_start(int status, int failures) {
  char bytes[8192];
  ssize_t got;
  bool failed = false;
  while ((got = read(failures, bytes, sizeof bytes)) != 0) {
    if (got < 0 && errno != EINTR) fail(errno, CODE, NULL, "cannot read from the program's process");
    if (got > 0) put(status, bytes, (size_t)got);
    failed = failed || got > 0;
  }
  close(failures);
  if (failed) _exit(FAILURE_STATUS);
  put(status, "R", 1);
}

struct ending {
  int status; /* of the program */
  bool alone; /* no process is left but this one: whatever lost its parent became a child of it */
};

/* True once `program` has been reaped. */
static bool reap(pid_t program, struct ending *ending) {
  bool ended = false;
  int one;
  pid_t child;
  while ((child = waitpid(-1, &one, WNOHANG | __WALL)) > 0) {
    if (child != program) continue;
    ending->status = one;
    ended = true;
  }
  ending->alone = child < 0 && errno == ECHILD;
  return ended;
}

static struct ending supervise(pid_t program) {
  sigset_t all;
  sigfillset(&all);
  for (;;) {
    struct ending ending = {0};
    if (reap(program, &ending)) return ending;
    siginfo_t info;
    int number = sigwaitinfo(&all, &info);
    if (number > 0 && number != SIGCHLD) kill(program, number);
  }
}

/* Until the supervisor says that the network is there. It is gone where nothing is said. */
static void await_network(int status) {
  char byte;
  ssize_t got;
  do got = read(status, &byte, 1);
  while (got < 0 && errno == EINTR);
  if (got != 1) _exit(FAILURE_STATUS);
}

_Noreturn void sandbox_init(const struct sandbox_spec *spec, const struct plan *plan, struct standard_io io, int status) {
  failure_stream(status);
  die_with_parent(status);
  prctl(PR_SET_NAME, "varve-init", 0, 0, 0);
  /* Our own program file and memory are no business of anybody in the sandbox; execve makes the program dumpable again. */
  if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0) fail(errno, CODE, NULL, "cannot protect the set-up");
  struct terminal terminal = setup_sandbox(plan);
  if (terminal.master >= 0) {
    pass_descriptor(status, terminal.master);
    close(terminal.master);
  }
  io = settle_io(io, spec, terminal);
  /* Keys of the caller's session are not the sandbox's. Kernels without key rings have none to protect. */
  if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL) < 0 && errno != ENOSYS) {
    fail(errno, CODE, NULL, "cannot join a fresh session keyring");
  }

  if (spec->network_helper[0] != NULL) await_network(status);
  int failures[2];
  if (pipe2(failures, O_CLOEXEC) < 0) fail(errno, CODE, NULL, "cannot make a pipe");
  struct userns_gate gate = {0};
  if (userns_wanted(spec)) gate = userns_gate_make();
  pid_t program = fork();
  if (program < 0) fail(errno, CODE, NULL, "cannot start a process");
  if (program == 0) {
    failure_stream(failures[1]);
    if (userns_wanted(spec)) userns_enter(&gate);
    become_program(spec, &io, failures[1]);
  }
  if (userns_wanted(spec)) userns_map(&gate, spec, program);
  lower_guard(status, failures[0]);
  await_start(0, 1);

  struct ending ending = supervise(program);
  unsigned char record[6] = {'A', 'E'};
  for (int i = 0; i < 4; i++) record[2 + i] = (unsigned char)((unsigned)ending.status >> (8 * i));
  if (ending.alone) put(0, record, sizeof record);
  else put(0, record + 1, sizeof record - 1);
  _exit(0);
}
