#define _GNU_SOURCE
#include "sandbox_network.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "failure.h"

#define CODE "network-failed"

/* Longer than any of them takes on a machine that is busy. */
#define PATIENCE_MS 20000

struct ends {
  int network, ready, words;
};

static _Noreturn void become_helper(char **arguments, struct ends ends, pid_t supervisor) {
  char *const environment[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL};
  /* A supervisor that died before the request is no parent any more. */
  if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 || getppid() != supervisor) _exit(FAILURE_STATUS);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  signal(SIGPIPE, SIG_DFL);
  if (dup2(ends.network, 0) < 0 || dup2(ends.ready, 1) < 0 || dup2(ends.words, 2) < 0) _exit(FAILURE_STATUS);
  close_range(3, ~0U, 0);
  execve(arguments[0], arguments, environment);
  perror(arguments[0]);
  _exit(FAILURE_STATUS);
}

static bool is_ready(int ready) {
  char byte;
  struct pollfd polled = {.fd = ready, .events = POLLIN};
  int result;
  do result = poll(&polled, 1, PATIENCE_MS);
  while (result < 0 && errno == EINTR);
  return result > 0 && read(ready, &byte, 1) == 1;
}

/* The last line that the helper wrote; they say first what they do, and last why they cannot. */
static _Noreturn void tell_why(const char *program, int words) {
  char text[1024];
  off_t end = lseek(words, 0, SEEK_END);
  off_t start = end > (off_t)sizeof text - 1 ? end - (off_t)sizeof text + 1 : 0;
  ssize_t got = pread(words, text, sizeof text - 1, start);
  text[got < 0 ? 0 : got] = '\0';
  size_t length = strlen(text);
  while (length > 0 && (text[length - 1] == '\n' || text[length - 1] == ' ')) text[--length] = '\0';
  const char *line = strrchr(text, '\n');
  fail(0, CODE, program, "the sandbox gets no network: %s", length == 0 ? "no word about why" : line == NULL ? text : line + 1);
}

pid_t network_start(char **arguments, pid_t init) {
  char path[64];
  int ready[2];
  snprintf(path, sizeof path, "/proc/%d/ns/net", (int)init);
  struct ends ends = {.network = open(path, O_RDONLY | O_CLOEXEC), .words = memfd_create("varve-network", MFD_CLOEXEC)};
  if (ends.network < 0) {
    int error = errno;
    siginfo_t ended = {0};
    /* Not reaped here. What it reported on its way is the story. */
    if (waitid(P_PID, (id_t)init, &ended, WEXITED | WNOHANG | WNOWAIT) == 0 && ended.si_pid == init) return 0;
    fail(error, CODE, path, "cannot open the network of the sandbox");
  }
  if (ends.words < 0 || pipe2(ready, O_CLOEXEC) < 0) fail(errno, CODE, NULL, "cannot make a pipe");
  ends.ready = ready[1];
  pid_t supervisor = getpid(), helper = fork();
  if (helper < 0) fail(errno, CODE, arguments[0], "cannot start a process");
  if (helper == 0) become_helper(arguments, ends, supervisor);
  close(ends.network);
  close(ready[1]);
  if (!is_ready(ready[0])) tell_why(arguments[0], ends.words);
  close(ready[0]);
  close(ends.words);
  return helper;
}

void network_end(pid_t helper) {
  if (helper <= 0) return;
  kill(helper, SIGKILL);
  waitpid(helper, NULL, 0);
}
