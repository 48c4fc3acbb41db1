/*
 * varve --(streams of tasks)--> server --fork--> one process for each task
 *
 * Node is large, and what a fork costs goes by size: this process is small, and what it forks need not even be loaded.
 *
 * The server listens on an abstract address that the kernel picks, writes u8 'B', u32 VARVE_SOURCES and the address to standard output,
 * and takes connections of its parent only. A connection begins with eight bytes:
 *
 *     u8 task: `s` sandbox, `a` apply, `d` scan-diff, `t` scan-tree, `r` remove, `l` look, `h` hash-tar
 *     u8 which descriptor of the task this stream becomes
 *     u8 which descriptors the task gets in all, as bits
 *     u8 0
 *     u32 (little-endian) number of the task
 *
 * With the last of its streams a task starts. A tree's task has one, its standard input, which is its output too. When a task has
 * ended, u8 'X' and its wait status (wait(2)) as u32 follow what it wrote itself: on its control stream, or on the only one. A tree's
 * task that nobody reads any more is killed; a sandbox's supervisor sees that for itself. When standard input closes, the parent is
 * gone, and the server ends with its last task. Where the server is killed its tasks die.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "commands.h"
#include "failure.h"
#include "seal.h"
#include "wire.h"

/* Says which sources this was made of (scripts/build-native.mjs): varve and the program must be of the same. 0: nobody knows. */
#ifndef VARVE_SOURCES
#define VARVE_SOURCES 0
#endif

#define LIFELINE STDIN_FILENO
#define PLACES 4
#define CONTROL 3
#define HEADER 8
#define BACKLOG 512
#define STATUS 5

struct task {
  struct task *next;
  uint32_t number;
  char kind;
  uint8_t wanted;      /* bits of the places */
  uint8_t there;
  int streams[PLACES]; /* until it starts */
  int told;            /* our end of the stream that the status goes to, from the start on; -1: nobody reads it */
  pid_t pid;           /* 0 before the start and after the end */
  bool ended;
  unsigned char status[STATUS];
};

struct server {
  int listener, signals;
  pid_t pid;
  bool sealed, orphaned;
  struct task *tasks;
  sigset_t mask; /* as it was */
};

static _Noreturn void carry_out(const struct server *server, struct task *task) {
  if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 || getppid() != server->pid) _exit(FAILURE_STATUS);
  if ((task->wanted & 1) == 0) {
    int nothing = open("/dev/null", O_RDONLY);
    if (nothing < 0 || dup2(nothing, 0) < 0) _exit(FAILURE_STATUS);
  }
  for (int place = 0; place < PLACES; place++) {
    if ((task->wanted & 1 << place) != 0 && dup2(task->streams[place], place) < 0) _exit(FAILURE_STATUS);
  }
  if (task->wanted == 1 && dup2(0, 1) < 0) _exit(FAILURE_STATUS);
  close_range((task->wanted & 1 << CONTROL) != 0 ? CONTROL + 1 : CONTROL, ~0U, 0);
  sigprocmask(SIG_SETMASK, &server->mask, NULL);
  char *arguments[] = {"varve-native", server->sealed ? SEALED : NULL, NULL};
  int count = server->sealed ? 2 : 1;
  switch (task->kind) {
    case 's': setsid(); exit(sandbox_main(count, arguments));
    case 'a': exit(tree_apply_main(1, arguments));
    case 'd': exit(tree_scan_diff_main(1, arguments));
    case 't': exit(tree_scan_plain_main(1, arguments));
    case 'r': exit(tree_remove_main(1, arguments));
    case 'l': exit(folder_look_main(1, arguments));
    case 'h': exit(tar_hash_main(1, arguments));
    default: _exit(FAILURE_STATUS);
  }
}

static void set_status(struct task *task, int status) {
  task->status[0] = 'X';
  for (int i = 0; i < 4; i++) task->status[1 + i] = (unsigned char)((unsigned)status >> (8 * i));
  task->ended = true;
  task->pid = 0;
}

static void start(struct server *server, struct task *task) {
  int place = (task->wanted & 1 << CONTROL) != 0 ? CONTROL : 0;
  task->pid = fork();
  if (task->pid == 0) carry_out(server, task);
  if (task->pid < 0) set_status(task, FAILURE_STATUS << 8);
  for (int i = 0; i < PLACES; i++) {
    if ((task->wanted & 1 << i) != 0 && i != place) close(task->streams[i]);
  }
  task->told = task->streams[place];
}

static struct task *task_of(struct server *server, const unsigned char *header) {
  uint32_t number = 0;
  for (int i = 3; i >= 0; i--) number = number << 8 | header[4 + i];
  for (struct task *task = server->tasks; task != NULL; task = task->next) {
    if (task->number == number) return task;
  }
  struct task *task = wire_allocate(sizeof *task);
  *task = (struct task){.next = server->tasks, .number = number, .kind = (char)header[0], .wanted = header[2], .told = -1};
  server->tasks = task;
  return task;
}

static bool is_parent(int stream) {
  struct ucred peer;
  socklen_t size = sizeof peer;
  return getsockopt(stream, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.pid == getppid();
}

static void take_stream(struct server *server) {
  int stream = accept4(server->listener, NULL, NULL, SOCK_CLOEXEC);
  if (stream < 0) return;
  unsigned char header[HEADER];
  /* The parent sends them with the connection. */
  if (!is_parent(stream) || recv(stream, header, sizeof header, MSG_WAITALL) != (ssize_t)sizeof header) {
    close(stream);
    return;
  }
  struct task *task = task_of(server, header);
  uint8_t bit = header[1] < PLACES ? (uint8_t)(1 << header[1]) : 0;
  if ((task->wanted & bit) == 0 || (task->there & bit) != 0) {
    close(stream);
    return;
  }
  task->streams[header[1]] = stream;
  task->there |= bit;
  if (task->there == task->wanted) start(server, task);
}

static void reap(struct server *server) {
  struct signalfd_siginfo info;
  while (read(server->signals, &info, sizeof info) > 0) continue;
  int status;
  for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
    for (struct task *task = server->tasks; task != NULL; task = task->next) {
      if (task->pid == pid) set_status(task, status);
    }
  }
}

/* A reader that is slow must not hold up the others. */
static bool tell(const struct task *task) {
  return send(task->told, task->status, sizeof task->status, MSG_NOSIGNAL | MSG_DONTWAIT) == sizeof task->status;
}

/* Nobody reads a task's stream any more, or its status can be told. */
static void look_after(struct task *task, short events) {
  if ((events & (POLLHUP | POLLERR | POLLNVAL)) != 0) {
    if (task->pid > 0 && task->kind != 's') kill(task->pid, SIGKILL);
    close(task->told);
    task->told = -1;
  } else if (task->ended && tell(task)) {
    close(task->told);
    task->told = -1;
  }
}

static void drop_finished(struct server *server) {
  for (struct task **at = &server->tasks; *at != NULL;) {
    struct task *task = *at;
    if (!task->ended || task->told >= 0) {
      at = &task->next;
      continue;
    }
    *at = task->next;
    free(task);
  }
}

static void wait_for_more(struct server *server) {
  size_t count = 3;
  for (struct task *task = server->tasks; task != NULL; task = task->next) count++;
  struct pollfd *polled = wire_allocate(count * sizeof *polled);
  polled[0] = (struct pollfd){.fd = server->orphaned ? -1 : LIFELINE, .events = POLLIN};
  polled[1] = (struct pollfd){.fd = server->orphaned ? -1 : server->listener, .events = POLLIN};
  polled[2] = (struct pollfd){.fd = server->signals, .events = POLLIN};
  size_t at = 3;
  for (struct task *task = server->tasks; task != NULL; task = task->next) {
    polled[at++] = (struct pollfd){.fd = task->told, .events = task->ended ? POLLOUT : 0};
  }
  if (poll(polled, count, -1) > 0) {
    if (polled[0].revents != 0) {
      server->orphaned = true;
      for (struct task *task = server->tasks; task != NULL; task = task->next) {
        if (task->pid > 0 && task->kind != 's') kill(task->pid, SIGKILL);
        if (task->pid == 0) task->ended = true;
      }
    }
    at = 3;
    for (struct task *task = server->tasks; task != NULL; task = task->next, at++) {
      if (polled[at].revents != 0) look_after(task, polled[at].revents);
    }
    if (polled[2].revents != 0) reap(server);
    if (polled[1].revents != 0) take_stream(server);
  }
  free(polled);
  drop_finished(server);
}

static void announce(int listener) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  socklen_t size = sizeof address;
  if (getsockname(listener, (struct sockaddr *)&address, &size) < 0) fail(errno, "native-failed", NULL, "cannot listen");
  struct wire_out out;
  wire_out_init(&out, STDOUT_FILENO);
  wire_put_u8(&out, 'B');
  wire_put_u32(&out, VARVE_SOURCES);
  wire_put_bytes(&out, address.sun_path + 1, (uint32_t)(size - offsetof(struct sockaddr_un, sun_path) - 1));
  wire_flush(&out);
  int nothing = open("/dev/null", O_WRONLY | O_CLOEXEC);
  if (nothing < 0 || dup2(nothing, STDOUT_FILENO) < 0) fail(errno, "native-failed", NULL, "cannot open /dev/null");
  close(nothing);
}

int serve_main(int argc, char **argv) {
  bool sealed = argc > 1 && strcmp(argv[1], SEALED) == 0;
  /* Where that fails nothing may be mounted, and a sandbox tells so when it is asked for. */
  if (!sealed) seal("serve");
  prctl(PR_SET_NAME, "varve-native", 0, 0, 0);
  struct server server = {.sealed = sealed};
  server.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  /* A name of the family alone: the kernel picks the rest (unix(7), autobind). */
  struct sockaddr_un any = {.sun_family = AF_UNIX};
  if (server.listener < 0 || bind(server.listener, (struct sockaddr *)&any, sizeof any.sun_family) < 0 ||
      listen(server.listener, BACKLOG) < 0) {
    fail(errno, "native-failed", NULL, "cannot listen");
  }
  sigset_t child;
  sigemptyset(&child);
  sigaddset(&child, SIGCHLD);
  sigprocmask(SIG_BLOCK, &child, &server.mask);
  server.signals = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
  if (server.signals < 0) fail(errno, "native-failed", NULL, "cannot watch signals");
  announce(server.listener);
  server.pid = getpid();
  while (!server.orphaned || server.tasks != NULL) wait_for_more(&server);
  return 0;
}
