#define _GNU_SOURCE
#include "sandbox_program.h"

#include <errno.h>
#include <limits.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "capabilities.h"
#include "failure.h"
#include "sandbox_scope.h"
#include "seccomp.h"

#define CODE "sandbox-setup"

#define NOT_EXECUTABLE 126
#define NOT_FOUND 127

/* What execvp(3) and Docker take where the environment has no PATH. */
#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

static _Noreturn void not_started(int stream, int error, const char *program, const char *reason) {
  char message[PATH_MAX + 128];
  snprintf(message, sizeof message, "exec: \"%s\": %s", program, reason);
  struct wire_out out;
  wire_out_init(&out, stream);
  wire_put_u8(&out, 'N');
  wire_put_u32(&out, error == ENOENT || error == ENOTDIR ? NOT_FOUND : NOT_EXECUTABLE);
  wire_put_text(&out, message);
  wire_flush(&out);
  _exit(FAILURE_STATUS);
}

/* Ignored and blocked signals survive execve: the program starts with neither. */
static void default_signals(void) {
  for (int number = 1; number < NSIG; number++) signal(number, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
}

static void take_io(const struct standard_io *io) {
  /* A session of its own: the caller's terminal is not its controlling terminal, so TIOCSTI is refused there. */
  if (setsid() < 0) fail(errno, CODE, NULL, "cannot start a session");
  if (io->terminal && ioctl(io->in, TIOCSCTTY, 0) < 0) fail(errno, CODE, NULL, "cannot take the terminal");
  const int wanted[3] = {io->in, io->out, io->err};
  for (int number = 0; number < 3; number++) {
    if (wanted[number] >= 0 && dup2(wanted[number], number) < 0) fail(errno, CODE, NULL, "cannot pass descriptor %d", number);
  }
  /* Nothing else goes along. Marked rather than closed: the failure stream is needed until execve. */
  if (close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) < 0) fail(errno, CODE, NULL, "cannot close descriptors");
}

/* A working directory outside the root would be a way out (CVE-2024-21626): the kernel then calls it unreachable. */
static int enter(const char *folder) {
  char absolute[PATH_MAX], current[PATH_MAX];
  if (snprintf(absolute, sizeof absolute, "/%s", folder) >= (int)sizeof absolute) {
    errno = ENAMETOOLONG;
    return -1;
  }
  if (chdir(absolute) < 0) return -1;
  if (getcwd(current, sizeof current) == NULL) return -1;
  if (current[0] == '/') return 0;
  errno = EXDEV;
  return -1;
}

static const char *search_path(char *const *env) {
  for (; *env != NULL; env++) {
    if (strncmp(*env, "PATH=", 5) == 0) return *env + 5;
  }
  return DEFAULT_PATH;
}

/* 0 when `path` is a file that somebody may execute, else an errno value. */
static int examine(const char *path) {
  struct stat status;
  if (stat(path, &status) < 0) return errno;
  if (S_ISDIR(status.st_mode)) return EISDIR;
  return (status.st_mode & 0111) == 0 ? EACCES : 0;
}

/* The file that `name` means, in `found`; ends the process where there is none. */
static void look_up(const char *name, char *const *env, char found[PATH_MAX], int stream) {
  if (strchr(name, '/') != NULL) {
    int error = strlen(name) >= PATH_MAX ? ENAMETOOLONG : examine(name);
    char reason[PATH_MAX + 64];
    snprintf(reason, sizeof reason, "stat %s: no such file or directory", name);
    if (error == EISDIR) not_started(stream, error, name, "is a directory: permission denied");
    if (error == EACCES) not_started(stream, error, name, "permission denied");
    if (error != 0) not_started(stream, error, name, error == ENOENT ? reason : strerror(error));
    strcpy(found, name);
    return;
  }
  int seen = ENOENT;
  const char *rest = search_path(env);
  while (*rest != '\0' && *name != '\0') {
    size_t length = strcspn(rest, ":");
    int size = snprintf(found, PATH_MAX, "%.*s/%s", (int)length, rest, name);
    rest += length + (rest[length] == ':');
    /* An empty part would mean the working directory; Docker does not look there. */
    if (length == 0 || size >= PATH_MAX) continue;
    int error = examine(found);
    if (error == 0) return;
    if (error == EACCES) seen = EACCES;
  }
  not_started(stream, seen, name, seen == EACCES ? "permission denied" : "executable file not found in $PATH");
}

/* As ulimit's long names; in the order of setrlimit(2). */
static const char *limit_name(uint32_t resource) {
  static const char *const NAMES[] = {"cpu",   "fsize",   "data",  "stack",      "core",     "rss",  "nproc",  "nofile",
                                      "memlock", "as",    "locks", "sigpending", "msgqueue", "nice", "rtprio", "rttime"};
  return resource < sizeof NAMES / sizeof NAMES[0] ? NAMES[resource] : NULL;
}

static void set_limits(const struct sandbox_spec *spec) {
  for (uint32_t i = 0; i < spec->resource_limit_count; i++) {
    const struct resource_limit *limit = &spec->resource_limits[i];
    struct rlimit wanted = {.rlim_cur = limit->soft, .rlim_max = limit->hard};
    if (setrlimit((int)limit->resource, &wanted) < 0) fail(errno, "limit-unsupported", limit_name(limit->resource), "cannot set this resource limit");
  }
}

_Noreturn void become_program(const struct sandbox_spec *spec, const struct standard_io *io, int stream) {
  failure_stream(stream);
  take_io(io);
  default_signals();
  umask(022);
  bool inside = enter(spec->cwd) == 0;
  if (!inside && errno != EACCES) fail(errno, CODE, spec->cwd, "cannot enter the working directory");
  set_limits(spec); /* as root still: a hard limit may have to rise */
  if (spec->no_new_privileges && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) fail(errno, CODE, NULL, "cannot set no_new_privs");
  /* Before the policy and the identity: it takes CAP_SYS_ADMIN too. */
  if (spec->docker_security && scope_abstract_sockets() < 0) fail(errno, CODE, NULL, "cannot shut off abstract sockets");
  /* The policy before the identity: without no_new_privs it takes CAP_SYS_ADMIN, which goes with the identity. */
  if (spec->docker_security && seccomp_install() < 0) fail(errno, CODE, NULL, "cannot install the seccomp policy");
  if (identity_assume(&spec->identity) < 0) fail(errno, CODE, NULL, "cannot become user %u", spec->identity.uid);
  /* Root may be kept out where the user is let in (NFS). */
  if (!inside && enter(spec->cwd) < 0) fail(errno, CODE, spec->cwd, "cannot enter the working directory");

  char path[PATH_MAX];
  look_up(spec->args[0], spec->env, path, stream);
  execve(path, spec->args, spec->env);
  char reason[128];
  int error = errno;
  snprintf(reason, sizeof reason, "%s", strerror(error));
  if (reason[0] >= 'A' && reason[0] <= 'Z') reason[0] = (char)(reason[0] - 'A' + 'a');
  not_started(stream, error, spec->args[0], reason);
}
