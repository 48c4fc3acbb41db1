/*
 * The system calls that Docker's default policy allows whatever their arguments (moby/profiles, seccomp/default_linux.go: the
 * unconditional list, those of kernels from 4.8 on, those of the architecture, and chroot for CAP_SYS_CHROOT), as
 * ranges of the kernel's numbers, ascending. Numbers are ABI and never change; a table needs no kernel headers of the
 * foreign ABIs, and knows calls that are newer than the headers of the machine that compiles.
 * Not listed, and so refused, among others: bpf, io_uring_*, keyctl, mount and its kin, perf_event_open, setns, unshare, userfaultfd.
 */
#ifndef VARVE_SECCOMP_TABLE_H
#define VARVE_SECCOMP_TABLE_H

#include <stdint.h>

struct syscall_range {
  uint32_t first, last;
};

/* removexattrat: the newest call that the policy knows. */
#define NEWEST_KNOWN_SYSCALL 466

#if defined(__x86_64__)
static const struct syscall_range X86_64_ALLOWED[] = {
    /* read write open close stat fstat lstat poll lseek mmap mprotect munmap brk rt_sigaction rt_sigprocmask
     * rt_sigreturn ioctl pread64 pwrite64 readv writev access pipe select sched_yield mremap msync mincore madvise
     * shmget shmat shmctl dup dup2 pause nanosleep getitimer alarm setitimer getpid sendfile
     */
    {0, 40},
    /* connect accept sendto recvfrom sendmsg recvmsg shutdown bind listen getsockname getpeername socketpair
     * setsockopt getsockopt
     */
    {42, 55},
    /* fork vfork execve exit wait4 kill uname semget semop semctl shmdt msgget msgsnd msgrcv msgctl fcntl flock
     * fsync fdatasync truncate ftruncate getdents getcwd chdir fchdir rename mkdir rmdir creat link unlink symlink
     * readlink chmod fchmod chown fchown lchown umask gettimeofday getrlimit getrusage sysinfo times ptrace getuid
     */
    {57, 102},
    /* getgid setuid setgid geteuid getegid setpgid getppid getpgrp setsid setreuid setregid getgroups setgroups
     * setresuid getresuid setresgid getresgid getpgid setfsuid setfsgid getsid capget capset rt_sigpending
     * rt_sigtimedwait rt_sigqueueinfo rt_sigsuspend sigaltstack utime mknod
     */
    {104, 133},
    /* statfs fstatfs */
    {137, 138},
    /* getpriority setpriority sched_setparam sched_getparam sched_setscheduler sched_getscheduler
     * sched_get_priority_max sched_get_priority_min sched_rr_get_interval mlock munlock mlockall munlockall
     */
    {140, 152},
    /* modify_ldt */
    {154, 154},
    /* prctl arch_prctl adjtimex setrlimit chroot sync */
    {157, 162},
    /* gettid readahead setxattr lsetxattr fsetxattr getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr
     * removexattr lremovexattr fremovexattr tkill time futex sched_setaffinity sched_getaffinity set_thread_area
     * io_setup io_destroy io_getevents io_submit io_cancel get_thread_area
     */
    {186, 211},
    /* epoll_create epoll_ctl_old epoll_wait_old remap_file_pages getdents64 set_tid_address restart_syscall
     * semtimedop fadvise64 timer_create timer_settime timer_gettime timer_getoverrun timer_delete
     */
    {213, 226},
    /* clock_gettime clock_getres clock_nanosleep exit_group epoll_wait epoll_ctl tgkill utimes */
    {228, 235},
    /* mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr */
    {240, 245},
    /* waitid */
    {247, 247},
    /* ioprio_set ioprio_get inotify_init inotify_add_watch inotify_rm_watch */
    {251, 255},
    /* openat mkdirat mknodat fchownat futimesat newfstatat unlinkat renameat linkat symlinkat readlinkat fchmodat
     * faccessat pselect6 ppoll
     */
    {257, 271},
    /* set_robust_list get_robust_list splice tee sync_file_range vmsplice */
    {273, 278},
    /* utimensat epoll_pwait signalfd timerfd_create eventfd fallocate timerfd_settime timerfd_gettime accept4
     * signalfd4 eventfd2 epoll_create1 dup3 pipe2 inotify_init1 preadv pwritev rt_tgsigqueueinfo
     */
    {280, 297},
    /* recvmmsg */
    {299, 299},
    /* fanotify_mark prlimit64 name_to_handle_at */
    {301, 303},
    /* clock_adjtime syncfs sendmmsg */
    {305, 307},
    /* getcpu process_vm_readv process_vm_writev */
    {309, 311},
    /* sched_setattr sched_getattr renameat2 seccomp getrandom memfd_create */
    {314, 319},
    /* execveat */
    {322, 322},
    /* membarrier mlock2 copy_file_range preadv2 pwritev2 pkey_mprotect pkey_alloc pkey_free statx io_pgetevents
     * rseq uretprobe
     */
    {324, 335},
    /* pidfd_send_signal */
    {424, 424},
    /* pidfd_open */
    {434, 434},
    /* close_range openat2 */
    {436, 437},
    /* faccessat2 */
    {439, 439},
    /* epoll_pwait2 */
    {441, 441},
    /* landlock_create_ruleset landlock_add_rule landlock_restrict_self memfd_secret process_mrelease futex_waitv */
    {444, 449},
    /* cachestat fchmodat2 map_shadow_stack futex_wake futex_wait futex_requeue statmount listmount */
    {451, 458},
    /* mseal setxattrat getxattrat listxattrat removexattrat */
    {462, 466},
};

static const struct syscall_range I386_ALLOWED[] = {
    /* restart_syscall exit fork read write open close waitpid creat link unlink execve chdir time mknod chmod
     * lchown
     */
    {0, 16},
    /* lseek getpid */
    {19, 20},
    /* setuid getuid */
    {23, 24},
    /* ptrace alarm */
    {26, 27},
    /* pause utime */
    {29, 30},
    /* access */
    {33, 33},
    /* sync kill rename mkdir rmdir dup pipe times */
    {36, 43},
    /* brk setgid getgid */
    {45, 47},
    /* geteuid getegid */
    {49, 50},
    /* ioctl fcntl */
    {54, 55},
    /* setpgid */
    {57, 57},
    /* umask chroot */
    {60, 61},
    /* dup2 getppid getpgrp setsid */
    {63, 66},
    /* setreuid setregid */
    {70, 71},
    /* setrlimit getrlimit getrusage gettimeofday */
    {75, 78},
    /* getgroups setgroups select symlink */
    {80, 83},
    /* readlink */
    {85, 85},
    /* mmap munmap truncate ftruncate fchmod fchown getpriority setpriority */
    {90, 97},
    /* statfs fstatfs */
    {99, 100},
    /* socketcall */
    {102, 102},
    /* setitimer getitimer stat lstat fstat */
    {104, 108},
    /* wait4 */
    {114, 114},
    /* sysinfo ipc fsync sigreturn */
    {116, 119},
    /* uname modify_ldt adjtimex mprotect sigprocmask */
    {122, 126},
    /* getpgid fchdir */
    {132, 133},
    /* setfsuid setfsgid _llseek getdents _newselect flock msync readv writev getsid fdatasync */
    {138, 148},
    /* mlock munlock mlockall munlockall sched_setparam sched_getparam sched_setscheduler sched_getscheduler
     * sched_yield sched_get_priority_max sched_get_priority_min sched_rr_get_interval nanosleep mremap setresuid
     * getresuid
     */
    {150, 165},
    /* poll */
    {168, 168},
    /* setresgid getresgid prctl rt_sigreturn rt_sigaction rt_sigprocmask rt_sigpending rt_sigtimedwait
     * rt_sigqueueinfo rt_sigsuspend pread64 pwrite64 chown getcwd capget capset sigaltstack sendfile
     */
    {170, 187},
    /* vfork ugetrlimit mmap2 truncate64 ftruncate64 stat64 lstat64 fstat64 lchown32 getuid32 getgid32 geteuid32
     * getegid32 setreuid32 setregid32 getgroups32 setgroups32 fchown32 setresuid32 getresuid32 setresgid32
     * getresgid32 chown32 setuid32 setgid32 setfsuid32 setfsgid32
     */
    {190, 216},
    /* mincore madvise getdents64 fcntl64 */
    {218, 221},
    /* gettid readahead setxattr lsetxattr fsetxattr getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr
     * removexattr lremovexattr fremovexattr tkill sendfile64 futex sched_setaffinity sched_getaffinity
     * set_thread_area get_thread_area io_setup io_destroy io_getevents io_submit io_cancel fadvise64
     */
    {224, 250},
    /* exit_group */
    {252, 252},
    /* epoll_create epoll_ctl epoll_wait remap_file_pages set_tid_address timer_create timer_settime timer_gettime
     * timer_getoverrun timer_delete
     */
    {254, 263},
    /* clock_gettime clock_getres clock_nanosleep statfs64 fstatfs64 tgkill utimes fadvise64_64 */
    {265, 272},
    /* mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr */
    {277, 282},
    /* waitid */
    {284, 284},
    /* ioprio_set ioprio_get inotify_init inotify_add_watch inotify_rm_watch */
    {289, 293},
    /* openat mkdirat mknodat fchownat futimesat fstatat64 unlinkat renameat linkat symlinkat readlinkat fchmodat
     * faccessat pselect6 ppoll
     */
    {295, 309},
    /* set_robust_list get_robust_list splice sync_file_range tee vmsplice */
    {311, 316},
    /* getcpu epoll_pwait utimensat signalfd timerfd_create eventfd fallocate timerfd_settime timerfd_gettime
     * signalfd4 eventfd2 epoll_create1 dup3 pipe2 inotify_init1 preadv pwritev rt_tgsigqueueinfo
     */
    {318, 335},
    /* recvmmsg */
    {337, 337},
    /* fanotify_mark prlimit64 name_to_handle_at */
    {339, 341},
    /* clock_adjtime syncfs sendmmsg */
    {343, 345},
    /* process_vm_readv process_vm_writev */
    {347, 348},
    /* sched_setattr sched_getattr renameat2 seccomp getrandom memfd_create */
    {351, 356},
    /* execveat */
    {358, 358},
    /* socketpair bind connect listen accept4 getsockopt setsockopt getsockname getpeername sendto sendmsg recvfrom
     * recvmsg shutdown
     */
    {360, 373},
    /* membarrier mlock2 copy_file_range preadv2 pwritev2 pkey_mprotect pkey_alloc pkey_free statx arch_prctl
     * io_pgetevents rseq
     */
    {375, 386},
    /* semget semctl shmget shmctl shmat shmdt msgget msgsnd msgrcv msgctl clock_gettime64 */
    {393, 403},
    /* clock_adjtime64 clock_getres_time64 clock_nanosleep_time64 timer_gettime64 timer_settime64 timerfd_gettime64
     * timerfd_settime64 utimensat_time64 pselect6_time64 ppoll_time64
     */
    {405, 414},
    /* io_pgetevents_time64 recvmmsg_time64 mq_timedsend_time64 mq_timedreceive_time64 semtimedop_time64
     * rt_sigtimedwait_time64 futex_time64 sched_rr_get_interval_time64 pidfd_send_signal
     */
    {416, 424},
    /* pidfd_open */
    {434, 434},
    /* close_range openat2 */
    {436, 437},
    /* faccessat2 */
    {439, 439},
    /* epoll_pwait2 */
    {441, 441},
    /* landlock_create_ruleset landlock_add_rule landlock_restrict_self memfd_secret process_mrelease futex_waitv */
    {444, 449},
    /* cachestat fchmodat2 map_shadow_stack futex_wake futex_wait futex_requeue statmount listmount */
    {451, 458},
    /* mseal setxattrat getxattrat listxattrat removexattrat */
    {462, 466},
};

#elif defined(__aarch64__)
static const struct syscall_range ARM64_ALLOWED[] = {
    /* io_setup io_destroy io_submit io_cancel io_getevents setxattr lsetxattr fsetxattr getxattr lgetxattr
     * fgetxattr listxattr llistxattr flistxattr removexattr lremovexattr fremovexattr getcwd
     */
    {0, 17},
    /* eventfd2 epoll_create1 epoll_ctl epoll_pwait dup dup3 fcntl inotify_init1 inotify_add_watch inotify_rm_watch
     * ioctl ioprio_set ioprio_get flock mknodat mkdirat unlinkat symlinkat linkat renameat
     */
    {19, 38},
    /* statfs fstatfs truncate ftruncate fallocate faccessat chdir fchdir chroot fchmod fchmodat fchownat fchown
     * openat close
     */
    {43, 57},
    /* pipe2 */
    {59, 59},
    /* getdents64 lseek read write readv writev pread64 pwrite64 preadv pwritev sendfile pselect6 ppoll signalfd4
     * vmsplice splice tee readlinkat newfstatat fstat sync fsync fdatasync sync_file_range timerfd_create
     * timerfd_settime timerfd_gettime utimensat
     */
    {61, 88},
    /* capget capset */
    {90, 91},
    /* exit exit_group waitid set_tid_address */
    {93, 96},
    /* futex set_robust_list get_robust_list nanosleep getitimer setitimer */
    {98, 103},
    /* timer_create timer_gettime timer_getoverrun timer_settime timer_delete */
    {107, 111},
    /* clock_gettime clock_getres clock_nanosleep */
    {113, 115},
    /* ptrace sched_setparam sched_setscheduler sched_getscheduler sched_getparam sched_setaffinity
     * sched_getaffinity sched_yield sched_get_priority_max sched_get_priority_min sched_rr_get_interval
     * restart_syscall kill tkill tgkill sigaltstack rt_sigsuspend rt_sigaction rt_sigprocmask rt_sigpending
     * rt_sigtimedwait rt_sigqueueinfo rt_sigreturn setpriority getpriority
     */
    {117, 141},
    /* setregid setgid setreuid setuid setresuid getresuid setresgid getresgid setfsuid setfsgid times setpgid
     * getpgid getsid setsid getgroups setgroups uname
     */
    {143, 160},
    /* getrlimit setrlimit getrusage umask prctl getcpu gettimeofday */
    {163, 169},
    /* adjtimex getpid getppid getuid geteuid getgid getegid gettid sysinfo mq_open mq_unlink mq_timedsend
     * mq_timedreceive mq_notify mq_getsetattr msgget msgctl msgrcv msgsnd semget semctl semtimedop semop shmget
     * shmctl shmat shmdt
     */
    {171, 197},
    /* socketpair bind listen accept connect getsockname getpeername sendto recvfrom setsockopt getsockopt shutdown
     * sendmsg recvmsg readahead brk munmap mremap
     */
    {199, 216},
    /* execve mmap fadvise64 */
    {221, 223},
    /* mprotect msync mlock munlock mlockall munlockall mincore madvise remap_file_pages */
    {226, 234},
    /* rt_tgsigqueueinfo */
    {240, 240},
    /* accept4 recvmmsg */
    {242, 243},
    /* wait4 prlimit64 */
    {260, 261},
    /* fanotify_mark name_to_handle_at */
    {263, 264},
    /* clock_adjtime syncfs */
    {266, 267},
    /* sendmmsg process_vm_readv process_vm_writev */
    {269, 271},
    /* sched_setattr sched_getattr renameat2 seccomp getrandom memfd_create */
    {274, 279},
    /* execveat */
    {281, 281},
    /* membarrier mlock2 copy_file_range preadv2 pwritev2 pkey_mprotect pkey_alloc pkey_free statx io_pgetevents
     * rseq
     */
    {283, 293},
    /* pidfd_send_signal */
    {424, 424},
    /* pidfd_open */
    {434, 434},
    /* close_range openat2 */
    {436, 437},
    /* faccessat2 */
    {439, 439},
    /* epoll_pwait2 */
    {441, 441},
    /* landlock_create_ruleset landlock_add_rule landlock_restrict_self memfd_secret process_mrelease futex_waitv */
    {444, 449},
    /* cachestat fchmodat2 map_shadow_stack futex_wake futex_wait futex_requeue statmount listmount */
    {451, 458},
    /* mseal setxattrat getxattrat listxattrat removexattrat */
    {462, 466},
};

static const struct syscall_range ARM_ALLOWED[] = {
    /* restart_syscall exit fork read write open close */
    {0, 6},
    /* creat link unlink execve chdir */
    {8, 12},
    /* mknod chmod lchown */
    {14, 16},
    /* lseek getpid */
    {19, 20},
    /* setuid getuid */
    {23, 24},
    /* ptrace */
    {26, 26},
    /* pause */
    {29, 29},
    /* access */
    {33, 33},
    /* sync kill rename mkdir rmdir dup pipe times */
    {36, 43},
    /* brk setgid getgid */
    {45, 47},
    /* geteuid getegid */
    {49, 50},
    /* ioctl fcntl */
    {54, 55},
    /* setpgid */
    {57, 57},
    /* umask chroot */
    {60, 61},
    /* dup2 getppid getpgrp setsid */
    {63, 66},
    /* setreuid setregid */
    {70, 71},
    /* setrlimit */
    {75, 75},
    /* getrusage gettimeofday */
    {77, 78},
    /* getgroups setgroups */
    {80, 81},
    /* symlink */
    {83, 83},
    /* readlink */
    {85, 85},
    /* munmap truncate ftruncate fchmod fchown getpriority setpriority */
    {91, 97},
    /* statfs fstatfs */
    {99, 100},
    /* setitimer getitimer stat lstat fstat */
    {104, 108},
    /* wait4 */
    {114, 114},
    /* sysinfo */
    {116, 116},
    /* fsync sigreturn */
    {118, 119},
    /* uname */
    {122, 122},
    /* adjtimex mprotect sigprocmask */
    {124, 126},
    /* getpgid fchdir */
    {132, 133},
    /* setfsuid setfsgid _llseek getdents _newselect flock msync readv writev getsid fdatasync */
    {138, 148},
    /* mlock munlock mlockall munlockall sched_setparam sched_getparam sched_setscheduler sched_getscheduler
     * sched_yield sched_get_priority_max sched_get_priority_min sched_rr_get_interval nanosleep mremap setresuid
     * getresuid
     */
    {150, 165},
    /* poll */
    {168, 168},
    /* setresgid getresgid prctl rt_sigreturn rt_sigaction rt_sigprocmask rt_sigpending rt_sigtimedwait
     * rt_sigqueueinfo rt_sigsuspend pread64 pwrite64 chown getcwd capget capset sigaltstack sendfile
     */
    {170, 187},
    /* vfork ugetrlimit mmap2 truncate64 ftruncate64 stat64 lstat64 fstat64 lchown32 getuid32 getgid32 geteuid32
     * getegid32 setreuid32 setregid32 getgroups32 setgroups32 fchown32 setresuid32 getresuid32 setresgid32
     * getresgid32 chown32 setuid32 setgid32 setfsuid32 setfsgid32 getdents64
     */
    {190, 217},
    /* mincore madvise fcntl64 */
    {219, 221},
    /* gettid readahead setxattr lsetxattr fsetxattr getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr
     * removexattr lremovexattr fremovexattr tkill sendfile64 futex sched_setaffinity sched_getaffinity io_setup
     * io_destroy io_getevents io_submit io_cancel exit_group
     */
    {224, 248},
    /* epoll_create epoll_ctl epoll_wait remap_file_pages */
    {250, 253},
    /* set_tid_address timer_create timer_settime timer_gettime timer_getoverrun timer_delete */
    {256, 261},
    /* clock_gettime clock_getres clock_nanosleep statfs64 fstatfs64 tgkill utimes arm_fadvise64_64 */
    {263, 270},
    /* mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr waitid */
    {274, 280},
    /* bind connect listen accept getsockname getpeername socketpair send sendto recv recvfrom shutdown setsockopt
     * getsockopt sendmsg recvmsg semop semget semctl msgsnd msgrcv msgget msgctl shmat shmdt shmget shmctl
     */
    {282, 308},
    /* semtimedop */
    {312, 312},
    /* ioprio_set ioprio_get inotify_init inotify_add_watch inotify_rm_watch */
    {314, 318},
    /* openat mkdirat mknodat fchownat futimesat fstatat64 unlinkat renameat linkat symlinkat readlinkat fchmodat
     * faccessat pselect6 ppoll
     */
    {322, 336},
    /* set_robust_list get_robust_list splice sync_file_range2 tee vmsplice */
    {338, 343},
    /* getcpu epoll_pwait */
    {345, 346},
    /* utimensat signalfd timerfd_create eventfd fallocate timerfd_settime timerfd_gettime signalfd4 eventfd2
     * epoll_create1 dup3 pipe2 inotify_init1 preadv pwritev rt_tgsigqueueinfo
     */
    {348, 363},
    /* recvmmsg accept4 */
    {365, 366},
    /* fanotify_mark prlimit64 name_to_handle_at */
    {368, 370},
    /* clock_adjtime syncfs sendmmsg */
    {372, 374},
    /* process_vm_readv process_vm_writev */
    {376, 377},
    /* sched_setattr sched_getattr renameat2 seccomp getrandom memfd_create */
    {380, 385},
    /* execveat */
    {387, 387},
    /* membarrier mlock2 copy_file_range preadv2 pwritev2 pkey_mprotect pkey_alloc pkey_free statx rseq
     * io_pgetevents
     */
    {389, 399},
    /* clock_gettime64 */
    {403, 403},
    /* clock_adjtime64 clock_getres_time64 clock_nanosleep_time64 timer_gettime64 timer_settime64 timerfd_gettime64
     * timerfd_settime64 utimensat_time64 pselect6_time64 ppoll_time64
     */
    {405, 414},
    /* io_pgetevents_time64 recvmmsg_time64 mq_timedsend_time64 mq_timedreceive_time64 semtimedop_time64
     * rt_sigtimedwait_time64 futex_time64 sched_rr_get_interval_time64 pidfd_send_signal
     */
    {416, 424},
    /* pidfd_open */
    {434, 434},
    /* close_range openat2 */
    {436, 437},
    /* faccessat2 */
    {439, 439},
    /* epoll_pwait2 */
    {441, 441},
    /* landlock_create_ruleset landlock_add_rule landlock_restrict_self */
    {444, 446},
    /* process_mrelease futex_waitv */
    {448, 449},
    /* cachestat fchmodat2 map_shadow_stack futex_wake futex_wait futex_requeue statmount listmount */
    {451, 458},
    /* mseal setxattrat getxattrat listxattrat removexattrat */
    {462, 466},
    /* breakpoint cacheflush */
    {0xf0001, 0xf0002},
    /* set_tls */
    {0xf0005, 0xf0005},
};

#endif

#endif
