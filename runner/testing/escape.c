/*
 * Every known way out of a sandbox, tried one after another in a single process of it. `escape NAME=VALUE...` prints a line for each
 * attempt, `NAME ok` or `NAME` and the name of the error; each runs in a child of its own. Compiled by the tests, run inside.
 *
 * What succeeds must do no harm: the tests run all of it without restrictions too, to see that each attempt would be noticed. Where a
 * success would change the machine, the attempt is one that fails for another reason once the permission is there.
 *
 * Arguments: file=PATH a file of the host; disk=MAJOR:MINOR of its block device; abstract=NAME an abstract socket that listens there.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/fs.h>
#include <linux/io_uring.h>
#include <linux/perf_event.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>
#ifdef __x86_64__
#include <sys/io.h>
#endif

static char **arguments;

static const char *argument(const char *name) {
  size_t length = strlen(name);
  for (char **at = arguments; *at != NULL; at++) {
    if (strncmp(*at, name, length) == 0 && (*at)[length] == '=') return *at + length + 1;
  }
  return "";
}

/* Mounts and their interfaces. */

static long mount_on(const char *type, const char *data) {
  mkdir("/tmp", 0777);
  if (mkdir("/tmp/escape-place", 0700) < 0 && errno != EEXIST) return -1;
  long result = mount("none", "/tmp/escape-place", type, 0, data);
  int error = errno;
  if (result == 0) umount2("/tmp/escape-place", MNT_DETACH);
  rmdir("/tmp/escape-place");
  errno = error;
  return result;
}
static long do_mount_tmpfs(void) { return mount_on("tmpfs", NULL); }
static long do_mount_proc(void) { return mount_on("proc", NULL); }
static long do_mount_cgroup(void) { return mount_on("cgroup2", NULL); }
static long do_mount_fusectl(void) { return mount_on("fusectl", NULL); }
static long do_umount_mask(void) { return umount2("/dev/shm", MNT_DETACH); }
static long do_open_tree(void) { return open_tree(AT_FDCWD, "/", OPEN_TREE_CLONE); }
static long do_fspick(void) { return fspick(AT_FDCWD, "/proc", 0); }
static long do_mount_setattr(void) {
  struct mount_attr nothing = {0};
  return mount_setattr(AT_FDCWD, "/", 0, &nothing, sizeof nothing);
}
static long do_move_mount(void) { return move_mount(-1, "", -1, "", 0); }
static long do_pivot_root(void) { return syscall(SYS_pivot_root, ".", "."); }

/* Namespaces. */

static long do_unshare_user(void) { return unshare(CLONE_NEWUSER); }
static long do_unshare_net(void) { return unshare(CLONE_NEWNET); }
static long join(const char *path) {
  int fd = open(path, O_RDONLY);
  return fd < 0 ? -1 : setns(fd, 0);
}
static long do_join_init_mounts(void) { return join("/proc/1/ns/mnt"); }
static long do_join_own_pids(void) { return join("/proc/self/ns/pid"); }

/* Descriptors and paths that lead out. */

/* True where a descriptor beside the standard ones is open. */
static long leaked_descriptor(void) {
  for (int fd = 3; fd < 1024; fd++) {
    if (fcntl(fd, F_GETFD) >= 0) return fd;
  }
  errno = EBADF;
  return -1;
}
static long do_descriptor(void) { return leaked_descriptor(); }
static long do_descriptor_noticed(void) {
  dup2(0, 100);
  return leaked_descriptor();
}

static long open_from(const char *start, const char *path) {
  char full[4096];
  snprintf(full, sizeof full, "%s/../../../../../../../../../../../../../../../../../../../..%s", start, path);
  return open(full, O_RDONLY);
}

/* The file at `path` of whatever root can be reached. */
static long reach(const char *path) {
  static const char *const STARTS[] = {"",           "/proc/self/root", "/proc/self/cwd", "/proc/1/root",         "/proc/1/cwd",
                                       "/dev/fd",    "/proc/thread-self/root", "/etc",      "/sys/fs/cgroup", "/dev/shm"};
  char start[64];
  for (size_t i = 0; i < sizeof STARTS / sizeof STARTS[0]; i++) {
    long fd = open_from(STARTS[i], path);
    if (fd >= 0) return fd;
  }
  for (int number = 0; number < 256; number++) {
    snprintf(start, sizeof start, "/proc/self/fd/%d", number);
    long fd = open_from(start, path);
    if (fd < 0) {
      snprintf(start, sizeof start, "/proc/1/fd/%d", number);
      fd = open_from(start, path);
    }
    if (fd >= 0) return fd;
  }
  errno = ENOENT;
  return -1;
}
static long do_host_file(void) { return reach(argument("file")); }
static long do_host_file_noticed(void) { return reach("/proc/version"); }

/* The handle of a file that is bound from the host, on which open_by_handle_at(2) would open any other one ("shocker"). */
static long do_file_handle(void) {
  struct {
    struct file_handle handle;
    char space[MAX_HANDLE_SZ];
  } buffer = {.handle = {.handle_bytes = MAX_HANDLE_SZ}};
  int mount_id, bound = open("/etc/hostname", O_RDONLY);
  if (name_to_handle_at(AT_FDCWD, "/etc/hostname", &buffer.handle, &mount_id, 0) < 0) return -1;
  return open_by_handle_at(bound, &buffer.handle, O_RDONLY);
}

/* Process 1, which is varve's own. */

static long do_init_memory(void) { return open("/proc/1/mem", O_RDWR); }
static long do_init_program(void) { return open("/proc/1/exe", O_RDONLY); }
static long do_init_root(void) { return open("/proc/1/root/etc", O_RDONLY); }
static long do_init_descriptor(void) { return open("/proc/1/fd/0", O_WRONLY); }
static long do_init_environment(void) { return open("/proc/1/environ", O_RDONLY); }
static long do_init_maps(void) { return open("/proc/1/maps", O_RDONLY); }
static long do_init_ptrace(void) { return ptrace(PTRACE_SEIZE, 1, NULL, NULL); }
static long do_init_vm(void) {
  char byte;
  struct iovec here = {&byte, 1}, there = {(void *)1, 1};
  return process_vm_readv(1, &here, 1, &there, 1, 0);
}
static long do_init_pidfd(void) {
  long pidfd = syscall(SYS_pidfd_open, 1, 0);
  return pidfd < 0 ? -1 : syscall(SYS_pidfd_getfd, pidfd, 0, 0);
}
/* Another process of the same user can read this one's memory: the attempts above are refused for what process 1 is. */
static long do_vm_noticed(void) {
  char byte, given = 'x';
  struct iovec here = {&byte, 1}, there = {&given, 1};
  return process_vm_readv(getpid(), &here, 1, &there, 1, 0);
}

/* The kernel's other doors. */

static long do_bpf(void) {
  union bpf_attr attributes = {.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1};
  return syscall(SYS_bpf, BPF_MAP_CREATE, &attributes, sizeof attributes);
}
static long do_perf(void) {
  struct perf_event_attr attributes = {.type = PERF_TYPE_SOFTWARE, .size = sizeof attributes, .config = PERF_COUNT_SW_CPU_CLOCK};
  return syscall(SYS_perf_event_open, &attributes, -1, 0, -1, 0);
}
static long do_userfaultfd(void) { return syscall(SYS_userfaultfd, 0); }
static long do_io_uring(void) {
  struct io_uring_params parameters = {0};
  return syscall(SYS_io_uring_setup, 1, &parameters);
}
static long do_user_keyring(void) { return syscall(SYS_keyctl, 0, -4, 1); }
static long do_add_key(void) { return syscall(SYS_add_key, "user", "escape", "x", 1, -2); }
static long do_request_key(void) { return syscall(SYS_request_key, "user", "escape", NULL, 0); }
static long do_kexec(void) { return syscall(SYS_kexec_load, 0, 0, NULL, 0); }
static long do_init_module(void) { return syscall(SYS_init_module, "", 0, ""); }
static long do_finit_module(void) { return syscall(SYS_finit_module, open("/dev/null", O_RDONLY), "", 0); }
static long do_delete_module(void) { return syscall(SYS_delete_module, "escape-none", O_NONBLOCK); }
static long do_reboot(void) { return syscall(SYS_reboot, 0, 0, 0, NULL); }
static long do_swapon(void) { return syscall(SYS_swapon, "/escape-none", 0); }
static long do_set_time(void) { return syscall(SYS_settimeofday, NULL, NULL); }
static long do_kernel_log(void) { return syscall(SYS_syslog, 10, NULL, 0); }
static long do_accounting(void) { return syscall(SYS_acct, NULL); }
static long do_fanotify(void) { return fanotify_init(0, 0); }
static long do_personality(void) { return syscall(SYS_personality, 0x0040000); }
static long do_host_name(void) { return sethostname("escape", 6); }
static long do_priority(void) { return setpriority(PRIO_PROCESS, 0, -20); }
#ifdef __x86_64__
static long do_ports(void) { return iopl(3); }
#endif

/* Sockets. */

static long do_vsock(void) { return socket(AF_VSOCK, SOCK_STREAM, 0); }
#ifdef __x86_64__
/* int 0x80 is the i386 ABI, whose socketcall(2) has its arguments in memory, where no filter can look. */
static unsigned int words[3];
static long i386_socket(unsigned family) {
  long result;
  words[0] = family;
  words[1] = SOCK_STREAM;
  words[2] = 0;
  __asm__ volatile("int $0x80" : "=a"(result) : "a"(102L), "b"(1L), "c"(words) : "memory", "r8", "r9", "r10", "r11");
  if (result >= 0) return result;
  errno = (int)-result;
  return -1;
}
static long do_i386_vsock(void) { return i386_socket(AF_VSOCK); }
#endif
static long do_interface(void) {
  struct ifreq request = {.ifr_name = "lo"};
  int fd = socket(AF_INET, SOCK_DGRAM, 0);
  if (ioctl(fd, SIOCGIFFLAGS, &request) < 0) return -1;
  return ioctl(fd, SIOCSIFFLAGS, &request);
}
static long with_abstract(int (*call)(int, const struct sockaddr *, socklen_t), int fd, const char *name) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name));
  memcpy(address.sun_path + 1, name, strlen(name));
  return call(fd, (struct sockaddr *)&address, size);
}
static long do_abstract(void) { return with_abstract(connect, socket(AF_UNIX, SOCK_STREAM, 0), argument("abstract")); }
/* One of the sandbox itself is reached. */
static long do_abstract_noticed(void) {
  char name[64];
  snprintf(name, sizeof name, "%s-own-%d", argument("abstract"), (int)getpid());
  int listener = socket(AF_UNIX, SOCK_STREAM, 0);
  if (with_abstract(bind, listener, name) < 0 || listen(listener, 1) < 0) return -1;
  return with_abstract(connect, socket(AF_UNIX, SOCK_STREAM, 0), name);
}

/* Devices: they can be named, not opened. */

static long open_node(mode_t type, unsigned major_number, unsigned minor_number) {
  const char *path = "/escape-node";
  unlink(path);
  if (mknod(path, type | 0600, makedev(major_number, minor_number)) < 0) return -1;
  int fd = open(path, O_RDONLY | O_NONBLOCK), error = errno;
  unlink(path);
  errno = error;
  return fd;
}
static long do_disk(void) {
  unsigned major_number = 0, minor_number = 0;
  sscanf(argument("disk"), "%u:%u", &major_number, &minor_number);
  return open_node(S_IFBLK, major_number, minor_number);
}
static long do_memory_device(void) { return open_node(S_IFCHR, 1, 1); }
static long do_log_device(void) { return open_node(S_IFCHR, 1, 11); }
static long do_tun_device(void) { return open_node(S_IFCHR, 10, 200); }
static long do_fuse_device(void) { return open_node(S_IFCHR, 10, 229); }
static long do_loop_device(void) { return open_node(S_IFCHR, 10, 237); }
static long do_console_device(void) { return open_node(S_IFCHR, 5, 1); }

/* Files of the kernel. Opening them is the attempt; nothing is written. */

static long to_write(const char *path) { return open(path, O_WRONLY); }
static long do_core_pattern(void) { return to_write("/proc/sys/kernel/core_pattern"); }
static long do_modprobe_path(void) { return to_write("/proc/sys/kernel/modprobe"); }
static long do_host_sysctl(void) { return to_write("/proc/sys/vm/drop_caches"); }
static long do_network_sysctl(void) { return to_write("/proc/sys/net/ipv4/ip_forward"); }
static long do_sysrq(void) { return to_write("/proc/sysrq-trigger"); }
static long do_interrupts(void) { return to_write("/proc/irq/default_smp_affinity"); }
static long do_sys_kernel(void) { return to_write("/sys/kernel/mm/transparent_hugepage/enabled"); }
static long do_sys_module(void) { return to_write("/sys/module/kernel/parameters/panic"); }
/* What hides it is a device, not the file. */
static long do_kernel_memory(void) {
  struct stat status;
  if (open("/proc/kcore", O_RDONLY) < 0 || stat("/proc/kcore", &status) < 0) return -1;
  if (S_ISREG(status.st_mode)) return 0;
  errno = ENOENT;
  return -1;
}
static long do_oom_shield(void) {
  int fd = open("/proc/self/oom_score_adj", O_WRONLY);
  return fd < 0 ? -1 : write(fd, "-1000", 5);
}

/* The first file below `folder`, at most three deep, that opens for writing. */
static long any_writable(const char *folder, int depth) {
  DIR *listing = opendir(folder);
  if (listing == NULL) return -1;
  for (struct dirent *entry; (entry = readdir(listing)) != NULL;) {
    char path[4096];
    if (entry->d_name[0] == '.') continue;
    snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
    struct stat status;
    if (lstat(path, &status) < 0) continue;
    long fd = S_ISDIR(status.st_mode) && depth > 0 ? any_writable(path, depth - 1) : -1;
    if (S_ISREG(status.st_mode)) fd = open(path, O_WRONLY);
    if (fd >= 0) return fd;
  }
  closedir(listing);
  errno = EROFS;
  return -1;
}
static long do_cgroup_file(void) { return any_writable("/sys/fs/cgroup", 3); }
static long do_writable_noticed(void) { return any_writable("/proc/self", 0); }

/* Files of the image that would mean more than they should. */

static long on_file(long (*attempt)(int fd)) {
  int fd = open("/escape-file", O_RDWR | O_CREAT, 0600);
  long result = fd < 0 ? -1 : attempt(fd);
  int error = errno;
  unlink("/escape-file");
  errno = error;
  return result;
}
static long set_trusted(int fd) { return fsetxattr(fd, "trusted.escape", "x", 1, 0); }
static long set_immutable(int fd) {
  int flags = FS_IMMUTABLE_FL;
  long result = ioctl(fd, FS_IOC_SETFLAGS, &flags);
  int error = errno;
  flags = 0;
  if (result == 0) ioctl(fd, FS_IOC_SETFLAGS, &flags);
  errno = error;
  return result;
}
static long do_trusted_attribute(void) { return on_file(set_trusted); }
static long do_immutable(void) { return on_file(set_immutable); }

static const struct {
  const char *name;
  long (*attempt)(void);
} ATTEMPTS[] = {
    {"mount-tmpfs", do_mount_tmpfs},
    {"mount-proc", do_mount_proc},
    {"mount-cgroup", do_mount_cgroup},
    {"mount-fusectl", do_mount_fusectl},
    {"open_tree", do_open_tree},
    {"fspick", do_fspick},
    {"mount_setattr", do_mount_setattr},
    {"move_mount", do_move_mount},
    {"pivot_root", do_pivot_root},
    {"unshare-user", do_unshare_user},
    {"unshare-net", do_unshare_net},
    {"join-init-mounts", do_join_init_mounts},
    {"join-own-pids", do_join_own_pids},
    {"descriptor", do_descriptor},
    {"host-file", do_host_file},
    {"file-handle", do_file_handle},
    {"init-memory", do_init_memory},
    {"init-program", do_init_program},
    {"init-root", do_init_root},
    {"init-descriptor", do_init_descriptor},
    {"init-environment", do_init_environment},
    {"init-maps", do_init_maps},
    {"init-ptrace", do_init_ptrace},
    {"init-vm", do_init_vm},
    {"init-pidfd", do_init_pidfd},
    {"bpf", do_bpf},
    {"perf", do_perf},
    {"userfaultfd", do_userfaultfd},
    {"io_uring", do_io_uring},
    {"user-keyring", do_user_keyring},
    {"add_key", do_add_key},
    {"request_key", do_request_key},
    {"kexec", do_kexec},
    {"init_module", do_init_module},
    {"finit_module", do_finit_module},
    {"delete_module", do_delete_module},
    {"reboot", do_reboot},
    {"swapon", do_swapon},
    {"set-time", do_set_time},
    {"kernel-log", do_kernel_log},
    {"accounting", do_accounting},
    {"fanotify", do_fanotify},
    {"personality", do_personality},
    {"host-name", do_host_name},
    {"priority", do_priority},
#ifdef __x86_64__
    {"ports", do_ports},
    {"i386-vsock", do_i386_vsock},
#endif
    {"vsock", do_vsock},
    {"interface", do_interface},
    {"abstract", do_abstract},
    {"disk", do_disk},
    {"memory-device", do_memory_device},
    {"log-device", do_log_device},
    {"tun-device", do_tun_device},
    {"fuse-device", do_fuse_device},
    {"loop-device", do_loop_device},
    {"console-device", do_console_device},
    {"core_pattern", do_core_pattern},
    {"modprobe-path", do_modprobe_path},
    {"host-sysctl", do_host_sysctl},
    {"network-sysctl", do_network_sysctl},
    {"sysrq", do_sysrq},
    {"interrupts", do_interrupts},
    {"sys-kernel", do_sys_kernel},
    {"sys-module", do_sys_module},
    {"kernel-memory", do_kernel_memory},
    {"oom-shield", do_oom_shield},
    {"cgroup-file", do_cgroup_file},
    {"trusted-attribute", do_trusted_attribute},
    {"immutable", do_immutable},
    /* Last: without restrictions it takes a mount away. */
    {"umount", do_umount_mask},
    /* These succeed everywhere, and show that their like would be noticed. */
    {"noticed-descriptor", do_descriptor_noticed},
    {"noticed-host-file", do_host_file_noticed},
    {"noticed-cgroup-file", do_writable_noticed},
    {"noticed-vm", do_vm_noticed},
    {"noticed-abstract", do_abstract_noticed},
};

int main(int argc, char **argv) {
  (void)argc;
  arguments = argv + 1;
  for (size_t i = 0; i < sizeof ATTEMPTS / sizeof ATTEMPTS[0]; i++) {
    pid_t child = fork();
    if (child == 0) {
      alarm(10);
      errno = 0;
      long result = ATTEMPTS[i].attempt();
      printf("%s %s\n", ATTEMPTS[i].name, result >= 0 ? "ok" : strerrorname_np(errno));
      fflush(stdout);
      _exit(0);
    }
    int status;
    if (waitpid(child, &status, 0) != child || status != 0) printf("%s died %d\n", ATTEMPTS[i].name, status);
    fflush(stdout);
  }
  return 0;
}
