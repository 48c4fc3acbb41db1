/*
 * What a hostile program in a sandbox would try. `attack NAME [ARGUMENT]` makes one attempt and prints `NAME ok`, or `NAME` and the
 * name of the error. Compiled by the tests, run inside the sandbox.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *argument = "";

static long do_mount(void) { return mount("none", "/tmp", "tmpfs", 0, NULL); }
static long do_umount(void) { return umount2("/proc/sys", MNT_DETACH); }
static long do_remount(void) { return mount(NULL, "/sys", NULL, MS_REMOUNT | MS_BIND, NULL); }
static long do_fsopen(void) { return syscall(SYS_fsopen, "tmpfs", 0); }
static long do_pivot_root(void) { return syscall(SYS_pivot_root, ".", "."); }
static long do_unshare_user(void) { return unshare(CLONE_NEWUSER); }
static long do_unshare_mount(void) { return unshare(CLONE_NEWNS); }
static long do_setns(void) { return setns(open("/proc/self/ns/net", O_RDONLY), 0); }

static long do_clone_user(void) {
  long pid = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);
  if (pid == 0) _exit(0);
  return pid;
}

static long do_clone3(void) {
  struct clone_args arguments = {.flags = CLONE_NEWUSER, .exit_signal = SIGCHLD};
  long pid = syscall(SYS_clone3, &arguments, sizeof arguments);
  if (pid == 0) _exit(0);
  return pid;
}

static long do_init_module(void) { return syscall(SYS_init_module, "", 0, ""); }
static long do_finit_module(void) { return syscall(SYS_finit_module, 0, "", 0); }
static long do_bpf(void) { return syscall(SYS_bpf, 0, NULL, 0); }
static long do_keyctl(void) { return syscall(SYS_keyctl, 0, -3, 0); }
static long do_add_key(void) { return syscall(SYS_add_key, "user", "a", "b", 1, -3); }
static long do_io_uring(void) { return syscall(SYS_io_uring_setup, 1, NULL); }
static long do_perf(void) { return syscall(SYS_perf_event_open, NULL, 0, 0, 0, 0); }
static long do_userfaultfd(void) { return syscall(SYS_userfaultfd, 0); }
static long do_kexec(void) { return syscall(SYS_kexec_load, 0, 0, NULL, 0); }
static long do_reboot(void) { return syscall(SYS_reboot, 0, 0, 0, NULL); }
static long do_swapon(void) { return syscall(SYS_swapon, "/x", 0); }
static long do_settime(void) { return syscall(SYS_clock_settime, 0, NULL); }
static long do_sethostname(void) { return sethostname("evil", 4); }
static long do_open_by_handle(void) { return syscall(SYS_open_by_handle_at, 0, NULL, 0); }
static long do_vsock(void) { return socket(40, SOCK_STREAM, 0); }
static long do_alg(void) { return socket(38, SOCK_SEQPACKET, 0); }
static long do_inet(void) { return socket(AF_INET, SOCK_STREAM, 0); }
static long do_personality(void) { return syscall(SYS_personality, 0x0040000); }
static long do_personality_ok(void) { return syscall(SYS_personality, 0xffffffff); }
static long do_new_call(void) { return syscall(600); }
static long do_old_unknown_call(void) { return syscall(SYS_vhangup); }
static long do_chroot(void) { return chroot("/"); }
#ifdef __x86_64__
static long do_x32(void) { return syscall(0x40000000 + SYS_getppid); }

/* int 0x80 is the i386 ABI; the numbers are its own. */
static long i386(long number, long first, long second) {
  long result;
  __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(first), "c"(second), "d"(0L) : "memory", "r8", "r9", "r10", "r11");
  if (result >= 0) return result;
  errno = (int)-result;
  return -1;
}
static long do_i386_getpid(void) { return i386(20, 0, 0); }
static long do_i386_unshare(void) { return i386(310, CLONE_NEWUSER, 0); }
static long do_i386_mount(void) { return i386(21, 0, 0); }
#endif
static long do_ptrace_init(void) { return ptrace(PTRACE_ATTACH, 1, NULL, NULL); }

static long do_read_init(void) { return open("/proc/1/mem", O_RDWR); }
static long do_init_exe(void) { return open("/proc/1/exe", O_RDONLY); }
static long do_init_root(void) { return open("/proc/1/root/..", O_RDONLY); }
static long do_init_fd(void) { return open("/proc/1/fd/0", O_WRONLY); }

/* The block device that holds the host's files; its number is the argument. */
static long do_raw_disk(void) {
  unsigned major = 0, minor = 0;
  sscanf(argument, "%u:%u", &major, &minor);
  unlink("/disk");
  if (mknod("/disk", S_IFBLK | 0600, makedev(major, minor)) < 0) return -1;
  return open("/disk", O_RDONLY);
}

static long do_kmem(void) {
  unlink("/kmem");
  if (mknod("/kmem", S_IFCHR | 0600, makedev(1, 1)) < 0) return -1;
  return open("/kmem", O_RDONLY);
}

static long do_own_null(void) {
  unlink("/null");
  if (mknod("/null", S_IFCHR | 0666, makedev(1, 3)) < 0) return -1;
  int fd = open("/null", O_WRONLY);
  unlink("/null");
  return fd;
}

static long do_tiocsti(void) { return ioctl(0, TIOCSTI, "x"); }

/* The classic way out of a chroot: a working directory above the root, then `..` as often as needed. */
static long do_chroot_escape(void) {
  mkdir("/jail", 0700);
  int above = open("/", O_RDONLY);
  if (chroot("/jail") < 0 || fchdir(above) < 0) return -1;
  for (int i = 0; i < 64; i++) {
    if (chdir("..") < 0) return -1;
  }
  if (chroot(".") < 0) return -1;
  return open(argument, O_RDONLY);
}

static long do_write(void) {
  int fd = open(argument, O_WRONLY);
  if (fd < 0) return -1;
  return write(fd, "1", 1);
}

/* In the folder of the argument `a` and `l` change places until there is a `stop`: whoever looks at one may use the other. */
static long do_swap(void) {
  int folder = open(argument, O_RDONLY | O_DIRECTORY);
  if (folder < 0) return -1;
  while (faccessat(folder, "stop", F_OK, 0) < 0) {
    for (int i = 0; i < 32; i++) {
      if (renameat2(folder, "a", folder, "l", RENAME_EXCHANGE) < 0) return -1;
    }
  }
  return 0;
}

/* Survives what can be survived: another session, no parent, every signal ignored. */
static long do_daemon(void) {
  if (fork() > 0) {
    sleep(1);
    return 0;
  }
  setsid();
  if (fork() > 0) _exit(0);
  for (int number = 1; number < NSIG; number++) signal(number, SIG_IGN);
  prctl(PR_SET_NAME, argument, 0, 0, 0);
  for (;;) pause();
}

static long do_fork_bomb(void) {
  long children = 0;
  while (children < 5000) {
    pid_t pid = fork();
    if (pid < 0) {
      printf("%ld children, then ", children);
      return -1;
    }
    if (pid == 0) {
      for (;;) pause();
    }
    children++;
  }
  return 0;
}

static long do_memory(void) {
  for (size_t mib = 0; mib < 4096; mib++) {
    char *block = malloc((size_t)1 << 20);
    if (block == NULL) return -1;
    memset(block, 1, (size_t)1 << 20);
  }
  return 0;
}

static long do_children_of_init(void) {
  /* An orphan becomes init's; init has to reap it. */
  if (fork() == 0) {
    if (fork() == 0) {
      usleep(50 * 1000);
      _exit(3);
    }
    _exit(0);
  }
  wait(NULL);
  usleep(300 * 1000);
  return system("for f in /proc/[0-9]*/stat; do cat $f 2>/dev/null; done | grep -q ' Z ' && exit 1 || exit 0") == 0 ? 0 : -1;
}

static const struct {
  const char *name;
  long (*attempt)(void);
} ATTEMPTS[] = {
    {"mount", do_mount},
    {"umount", do_umount},
    {"remount", do_remount},
    {"fsopen", do_fsopen},
    {"pivot_root", do_pivot_root},
    {"unshare-user", do_unshare_user},
    {"unshare-mount", do_unshare_mount},
    {"setns", do_setns},
    {"clone-user", do_clone_user},
    {"clone3", do_clone3},
    {"init_module", do_init_module},
    {"finit_module", do_finit_module},
    {"bpf", do_bpf},
    {"keyctl", do_keyctl},
    {"add_key", do_add_key},
    {"io_uring", do_io_uring},
    {"perf", do_perf},
    {"userfaultfd", do_userfaultfd},
    {"kexec", do_kexec},
    {"reboot", do_reboot},
    {"swapon", do_swapon},
    {"settime", do_settime},
    {"sethostname", do_sethostname},
    {"open_by_handle", do_open_by_handle},
    {"vsock", do_vsock},
    {"alg", do_alg},
    {"inet", do_inet},
    {"personality", do_personality},
    {"personality-ok", do_personality_ok},
    {"new-call", do_new_call},
    {"old-unknown-call", do_old_unknown_call},
    {"chroot", do_chroot},
#ifdef __x86_64__
    {"x32", do_x32},
    {"i386-getpid", do_i386_getpid},
    {"i386-unshare", do_i386_unshare},
    {"i386-mount", do_i386_mount},
#endif
    {"ptrace-init", do_ptrace_init},
    {"read-init", do_read_init},
    {"init-exe", do_init_exe},
    {"init-root", do_init_root},
    {"init-fd", do_init_fd},
    {"raw-disk", do_raw_disk},
    {"kmem", do_kmem},
    {"own-null", do_own_null},
    {"tiocsti", do_tiocsti},
    {"chroot-escape", do_chroot_escape},
    {"write", do_write},
    {"swap", do_swap},
    {"daemon", do_daemon},
    {"fork-bomb", do_fork_bomb},
    {"memory", do_memory},
    {"reaped", do_children_of_init},
};

int main(int argc, char **argv) {
  if (argc < 2) return 2;
  if (argc > 2) argument = argv[2];
  for (size_t i = 0; i < sizeof ATTEMPTS / sizeof ATTEMPTS[0]; i++) {
    if (strcmp(argv[1], ATTEMPTS[i].name) != 0) continue;
    errno = 0;
    long result = ATTEMPTS[i].attempt();
    printf("%s %s\n", argv[1], result >= 0 ? "ok" : strerrorname_np(errno));
    return result >= 0 ? 0 : 1;
  }
  return 2;
}
