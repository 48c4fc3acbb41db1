#define _GNU_SOURCE
#include "sandbox_devices.h"

#include <linux/bpf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ANY 0xffffffffu

/*
 * What moby and runc allow by default, beyond making nodes: null zero full random urandom, tty, ptmx, pts. They allow the console too,
 * which is the machine's: who types there would be read. A sandbox with a terminal has that at /dev/console.
 */
static const struct {
  uint32_t major, minor;
} OPENABLE[] = {{1, 3}, {1, 5}, {1, 7}, {1, 8}, {1, 9}, {5, 0}, {5, 2}, {136, ANY}};

#define RULES (sizeof OPENABLE / sizeof OPENABLE[0])

enum { R0 = BPF_REG_0, R1, R2, R3, R4, R5 };

/* Far below the kernel's limit; more than that many devices of a CDI specification are refused before. */
#define MOST_INSTRUCTIONS 512

struct code {
  struct bpf_insn instructions[MOST_INSTRUCTIONS];
  size_t count;
};

static void emit(struct code *code, uint8_t opcode, int to, int from, int offset, int32_t value) {
  code->instructions[code->count++] = (struct bpf_insn){
      .code = opcode, .dst_reg = (uint8_t)(to & 15), .src_reg = (uint8_t)(from & 15), .off = (int16_t)offset, .imm = value};
}

static void emit_verdict(struct code *code, int allowed) {
  emit(code, BPF_ALU64 | BPF_MOV | BPF_K, R0, 0, 0, allowed);
  emit(code, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
}

/* struct bpf_cgroup_dev_ctx: access_type holds the kind of node in its low half and the kinds of access in its high half. */
static struct code write_filter(const struct device_rule *further, uint32_t count) {
  struct code code = {.count = 0};
  emit(&code, BPF_LDX | BPF_MEM | BPF_W, R2, R1, offsetof(struct bpf_cgroup_dev_ctx, access_type), 0);
  emit(&code, BPF_LDX | BPF_MEM | BPF_W, R4, R1, offsetof(struct bpf_cgroup_dev_ctx, major), 0);
  emit(&code, BPF_LDX | BPF_MEM | BPF_W, R5, R1, offsetof(struct bpf_cgroup_dev_ctx, minor), 0);
  emit(&code, BPF_ALU64 | BPF_MOV | BPF_X, R3, R2, 0, 0);
  emit(&code, BPF_ALU64 | BPF_RSH | BPF_K, R3, 0, 0, 16);
  emit(&code, BPF_ALU64 | BPF_AND | BPF_K, R2, 0, 0, 0xffff);
  /* Making a node of any kind. */
  emit(&code, BPF_JMP | BPF_JNE | BPF_K, R3, 0, 2, BPF_DEVCG_ACC_MKNOD);
  emit_verdict(&code, 1);
  for (uint32_t i = 0; i < count && i < MOST_DEVICES; i++) {
    int kind = further[i].type == DEVICE_BLOCK ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR;
    emit(&code, BPF_JMP | BPF_JNE | BPF_K, R2, 0, 4, kind);
    emit(&code, BPF_JMP | BPF_JNE | BPF_K, R4, 0, 3, (int32_t)further[i].major);
    emit(&code, BPF_JMP | BPF_JNE | BPF_K, R5, 0, 2, (int32_t)further[i].minor);
    emit_verdict(&code, 1);
  }
  /* Other block devices are never opened. */
  emit(&code, BPF_JMP | BPF_JEQ | BPF_K, R2, 0, 2, BPF_DEVCG_DEV_CHAR);
  emit_verdict(&code, 0);
  for (size_t i = 0; i < RULES; i++) {
    bool any = OPENABLE[i].minor == ANY;
    emit(&code, BPF_JMP | BPF_JNE | BPF_K, R4, 0, any ? 2 : 3, (int32_t)OPENABLE[i].major);
    if (!any) emit(&code, BPF_JMP | BPF_JNE | BPF_K, R5, 0, 2, (int32_t)OPENABLE[i].minor);
    emit_verdict(&code, 1);
  }
  emit_verdict(&code, 0);
  return code;
}

bool device_filter_attach(int folder, const struct device_rule *further, uint32_t count) {
  struct code code = write_filter(further, count);
  union bpf_attr load;
  memset(&load, 0, sizeof load);
  load.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
  load.insns = (uint64_t)(uintptr_t)code.instructions;
  load.insn_cnt = (uint32_t)code.count;
  load.license = (uint64_t)(uintptr_t) "Apache-2.0";
  int program = (int)syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof load);
  if (program < 0) return false;
  union bpf_attr attach;
  memset(&attach, 0, sizeof attach);
  attach.target_fd = (uint32_t)folder;
  attach.attach_bpf_fd = (uint32_t)program;
  attach.attach_type = BPF_CGROUP_DEVICE;
  bool attached = syscall(SYS_bpf, BPF_PROG_ATTACH, &attach, sizeof attach) == 0;
  close(program);
  return attached;
}
