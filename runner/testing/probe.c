/*
 * Ways to look at files that no list of system calls by path would find. `probe NAME PATH` does one and prints `ok`, or the name of
 * the error. Compiled by the tests, run inside the sandbox.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

static int read_byte(int fd) {
  char byte;
  return fd < 0 ? -1 : (int)read(fd, &byte, 1);
}

static int do_open(const char *path) { return read_byte(open(path, O_RDONLY)); }

static int do_stat(const char *path) {
  struct stat status;
  return stat(path, &status);
}

static int do_mmap(const char *path) {
  int fd = open(path, O_RDONLY);
  volatile const char *bytes = fd < 0 ? MAP_FAILED : mmap(NULL, 1, PROT_READ, MAP_SHARED, fd, 0);
  if (bytes == MAP_FAILED) return -1;
  return bytes[0] == '\0' ? -1 : 0;
}

/* The root is the folder of the path; the path is then the last part alone. */
static int do_chroot(const char *path) {
  char *copy = strdup(path), *slash = strrchr(copy, '/');
  *slash = '\0';
  if (chroot(copy) < 0 || chdir("/") < 0) return -1;
  *slash = '/';
  return do_open(slash);
}

/* The working folder moves beside the file while the process is in it. */
static int do_rename(const char *path) {
  char *copy = strdup(path), *slash = strrchr(copy, '/'), inside[256], back[256];
  *slash = '\0';
  snprintf(inside, sizeof inside, "%s/moved", copy);
  snprintf(back, sizeof back, "../%s", slash + 1);
  if (mkdir("/elsewhere", 0755) < 0 || chdir("/elsewhere") < 0 || rename("/elsewhere", inside) < 0) return -1;
  return do_open(back);
}

/* A symlink that is gone when anybody could look where it led. */
static int do_vanished_link(const char *path) {
  if (symlink(path, "/tmp/link") < 0) return -1;
  int fd = open("/tmp/link", O_RDONLY);
  if (unlink("/tmp/link") < 0) return -1;
  return read_byte(fd);
}

static int do_handle(const char *path) {
  struct {
    struct file_handle handle;
    char space[MAX_HANDLE_SZ];
  } buffer = {.handle = {.handle_bytes = MAX_HANDLE_SZ}};
  int mount;
  int result = name_to_handle_at(AT_FDCWD, path, &buffer.handle, &mount, 0);
  /* Not every overlay has handles; the way to the file was looked up all the same. */
  return result < 0 && errno == EOPNOTSUPP ? 0 : result;
}

/* A file without extended attributes has an empty list of them. */
static int do_attributes(const char *path) { return llistxattr(path, NULL, 0) == 0 ? 0 : -1; }

static int do_fexecve(const char *path) {
  pid_t child = fork();
  if (child == 0) {
    char *arguments[] = {"x", NULL};
    fexecve(open(path, O_PATH), arguments, arguments + 1);
    _exit(127);
  }
  int status;
  return waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 0 ? 0 : -1;
}

static int do_socket(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
  int result = connect(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&address, sizeof address);
  return result < 0 && errno == ECONNREFUSED ? 0 : result;
}

/* openat through a ring: no system call names the path. */
static int do_ring(const char *path) {
  struct io_uring_params parameters = {0};
  int ring = (int)syscall(SYS_io_uring_setup, 4, &parameters);
  if (ring < 0) return -1;
  size_t size = parameters.cq_off.cqes + parameters.cq_entries * sizeof(struct io_uring_cqe);
  size_t other = parameters.sq_off.array + parameters.sq_entries * sizeof(unsigned);
  if (other > size) size = other;
  char *shared = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring, IORING_OFF_SQ_RING);
  struct io_uring_sqe *entries = mmap(NULL, parameters.sq_entries * sizeof *entries, PROT_READ | PROT_WRITE,
                                      MAP_SHARED | MAP_POPULATE, ring, IORING_OFF_SQES);
  if (shared == MAP_FAILED || entries == MAP_FAILED) return -1;
  memset(entries, 0, sizeof *entries);
  entries->opcode = IORING_OP_OPENAT;
  entries->fd = AT_FDCWD;
  entries->addr = (unsigned long)path;
  entries->open_flags = O_RDONLY;
  ((unsigned *)(shared + parameters.sq_off.array))[0] = 0;
  __atomic_store_n((unsigned *)(shared + parameters.sq_off.tail), 1, __ATOMIC_RELEASE);
  if (syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) < 0) return -1;
  return read_byte(((struct io_uring_cqe *)(shared + parameters.cq_off.cqes))->res);
}

int main(int argc, char **argv) {
  static const struct {
    const char *name;
    int (*run)(const char *path);
  } PROBES[] = {{"open", do_open},     {"stat", do_stat},           {"mmap", do_mmap},     {"chroot", do_chroot},
                {"rename", do_rename}, {"vanished", do_vanished_link}, {"handle", do_handle}, {"fexecve", do_fexecve},
                {"socket", do_socket}, {"ring", do_ring}, {"attributes", do_attributes}};
  for (size_t i = 0; argc > 2 && i < sizeof PROBES / sizeof PROBES[0]; i++) {
    if (strcmp(PROBES[i].name, argv[1]) != 0) continue;
    puts(PROBES[i].run(argv[2]) < 0 ? strerrorname_np(errno) : "ok");
    return 0;
  }
  return 2;
}
