/*
 * The filter, as libseccomp and runc would make it of Docker's policy:
 *   a listed call            allowed; clone, socket and personality by their first argument
 *   clone3                   ENOSYS: its flags lie in memory, where a filter cannot look; callers then use clone
 *   a call newer than 466    ENOSYS: programs probe for new calls and expect this answer (runc does the same)
 *   every other call         EPERM
 *   a foreign architecture   the process is killed
 *
 * i386 on x86-64 and 32-bit Arm on arm64 are allowed with tables of their own, as Docker's archMap has them: 32-bit images run.
 * x32 is not: its calls carry bit 30 in the number and so count as newer than 466. Hardly a kernel has x32 enabled, and it
 * doubles what an attacker can reach.
 */
#define _GNU_SOURCE
#include "seccomp.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "seccomp_table.h"

#define ALLOW SECCOMP_RET_ALLOW
#define REFUSE(error) (SECCOMP_RET_ERRNO | ((uint32_t)(error) & SECCOMP_RET_DATA))

#define NAMESPACE_FLAGS                                                                                          \
  (CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWCGROUP)

/* <sys/personality.h>: UNAME26, PER_LINUX32, both, and the query. */
static const uint32_t PERSONALITIES[] = {0x0, 0x8, 0x20000, 0x20008, 0xffffffff};

/* AF_VSOCK reaches the hypervisor past the network namespace, AF_ALG the kernel's cryptography (CVE-2026-31431). */
static const uint32_t REFUSED_SOCKETS[] = {AF_VSOCK, AF_ALG};

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* The longest table has 68 ranges of at most 3 instructions, for each of two architectures. */
#define CAPACITY 1024

struct program {
  struct sock_filter code[CAPACITY];
  unsigned short length;
  bool overflow;
};

struct abi {
  uint32_t audit_arch;
  const struct syscall_range *allowed;
  size_t count;
  uint32_t clone, clone3, socket, personality;
};

static void emit(struct program *program, struct sock_filter instruction) {
  if (program->length == CAPACITY) {
    program->overflow = true;
    return;
  }
  program->code[program->length++] = instruction;
}

static void emit_load(struct program *program, size_t offset) {
  emit(program, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset));
}

static void emit_return(struct program *program, uint32_t verdict) {
  emit(program, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, verdict));
}

/* If the accumulator equals `value`, ends with `verdict`. */
static void emit_case(struct program *program, uint32_t value, uint32_t verdict) {
  emit(program, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1));
  emit_return(program, verdict);
}

static void emit_ranges(struct program *program, const struct abi *abi) {
  for (size_t i = 0; i < abi->count; i++) {
    const struct syscall_range *range = &abi->allowed[i];
    if (range->first == range->last) {
      emit_case(program, range->first, ALLOW);
      continue;
    }
    emit(program, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, range->first, 0, 2));
    emit(program, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, range->last, 1, 0));
    emit_return(program, ALLOW);
  }
}

/* Arguments are 64 bits wide, but these three calls take ints: the kernel itself looks at the low half only. */
static void emit_argument_load(struct program *program) {
  emit_load(program, offsetof(struct seccomp_data, args[0]));
}

/* Opens a block for calls of number `nr`; the block's last instruction must return. */
static void emit_block(struct program *program, uint32_t nr, size_t instructions) {
  emit(program, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, (uint8_t)instructions));
}

static void emit_arguments(struct program *program, const struct abi *abi) {
  emit_block(program, abi->clone, 4);
  emit_argument_load(program);
  emit(program, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, NAMESPACE_FLAGS, 1, 0));
  emit_return(program, ALLOW);
  emit_return(program, REFUSE(EPERM));

  emit_block(program, abi->socket, 2 + 2 * COUNT(REFUSED_SOCKETS));
  emit_argument_load(program);
  for (size_t i = 0; i < COUNT(REFUSED_SOCKETS); i++) emit_case(program, REFUSED_SOCKETS[i], REFUSE(EPERM));
  emit_return(program, ALLOW);

  emit_block(program, abi->personality, 2 + 2 * COUNT(PERSONALITIES));
  emit_argument_load(program);
  for (size_t i = 0; i < COUNT(PERSONALITIES); i++) emit_case(program, PERSONALITIES[i], ALLOW);
  emit_return(program, REFUSE(EPERM));
}

static void emit_abi(struct program *program, const struct abi *abi) {
  emit(program, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, abi->audit_arch, 1, 0));
  unsigned short skip = program->length;
  emit(program, (struct sock_filter)BPF_STMT(BPF_JMP | BPF_JA, 0));
  emit_load(program, offsetof(struct seccomp_data, nr));
  emit_ranges(program, abi);
  emit_case(program, abi->clone3, REFUSE(ENOSYS));
  emit_arguments(program, abi);
  emit(program, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, NEWEST_KNOWN_SYSCALL, 0, 1));
  emit_return(program, REFUSE(ENOSYS));
  emit_return(program, REFUSE(EPERM));
  program->code[skip].k = (uint32_t)(program->length - skip - 1);
}

static const struct abi ABIS[] = {
#if defined(__x86_64__)
    {AUDIT_ARCH_X86_64, X86_64_ALLOWED, COUNT(X86_64_ALLOWED), 56, 435, 41, 135},
    {AUDIT_ARCH_I386, I386_ALLOWED, COUNT(I386_ALLOWED), 120, 435, 359, 136},
#elif defined(__aarch64__)
    {AUDIT_ARCH_AARCH64, ARM64_ALLOWED, COUNT(ARM64_ALLOWED), 220, 435, 198, 92},
    {AUDIT_ARCH_ARM, ARM_ALLOWED, COUNT(ARM_ALLOWED), 120, 435, 281, 136},
#else
#error "varve-native knows the system calls of x86-64 and arm64 only"
#endif
};

int seccomp_install(void) {
  static struct program program;
  program.length = 0;
  for (size_t i = 0; i < COUNT(ABIS); i++) {
    emit_load(&program, offsetof(struct seccomp_data, arch));
    emit_abi(&program, &ABIS[i]);
  }
  emit_return(&program, SECCOMP_RET_KILL_PROCESS);
  if (program.overflow) {
    errno = E2BIG;
    return -1;
  }
  struct sock_fprog filter = {.len = program.length, .filter = program.code};
  return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter);
}
