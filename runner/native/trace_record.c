#define _GNU_SOURCE
#include "trace_record.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "failure.h"
#include "wire.h"

void trace_record_init(struct trace_record *record) {
  memset(record, 0, sizeof *record);
  record->asked_by = NOBODY_YET;
  for (size_t i = 0; i < KNOWN_PROCESSES; i++) record->processes[i].comm = record->processes[i].syscall = -1;
}

struct trace_process *trace_process(struct trace_record *record, uint32_t pid) {
  struct trace_process *process = &record->processes[pid % KNOWN_PROCESSES];
  if (process->pid == pid) return process;
  if (process->comm >= 0) close(process->comm);
  if (process->syscall >= 0) close(process->syscall);
  *process = (struct trace_process){.pid = pid, .comm = -1, .syscall = -1};
  return process;
}

/* The process that a thread belongs to: threads have names of their own, which say little. */
static uint32_t leader_of(uint32_t pid) {
  char path[64], status[512];
  snprintf(path, sizeof path, "/proc/%u/status", pid);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return pid;
  ssize_t got = read(fd, status, sizeof status - 1);
  close(fd);
  if (got <= 0) return pid;
  status[got] = '\0';
  const char *line = strstr(status, "\nTgid:");
  return line == NULL ? pid : (uint32_t)strtoul(line + 6, NULL, 10);
}

static int open_proc(uint32_t pid, const char *name) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%u/%s", pid, name);
  return open(path, O_RDONLY | O_CLOEXEC);
}

static uint16_t number_of(struct trace_record *record, const char *name) {
  for (uint32_t i = 0; i < record->program_count; i++) {
    if (strcmp(record->programs[i], name) == 0) return (uint16_t)(i + 1);
  }
  if (record->program_count == UINT16_MAX) return 0;
  if ((record->program_count & (record->program_count - 1)) == 0) {
    size_t capacity = record->program_count == 0 ? 1 : (size_t)record->program_count * 2;
    record->programs = wire_grow(record->programs, capacity * PROGRAM_NAME);
  }
  memcpy(record->programs[record->program_count++], name, strlen(name) + 1);
  return (uint16_t)record->program_count;
}

/* The name may have changed by execve(2), so it is read each time; the descriptor stays good as long as the process lives. */
static uint16_t read_program(struct trace_record *record, uint32_t pid) {
  struct trace_process *process = trace_process(record, pid);
  char name[PROGRAM_NAME];
  ssize_t got = process->comm < 0 ? -1 : pread(process->comm, name, sizeof name - 1, 0);
  if (got <= 0) {
    if (process->comm >= 0) close(process->comm);
    process->comm = open_proc(leader_of(pid), "comm");
    got = process->comm < 0 ? -1 : pread(process->comm, name, sizeof name - 1, 0);
  }
  if (got <= 0) return 0;
  name[got] = '\0';
  name[strcspn(name, "\n")] = '\0';
  /* The set-up of the sandbox is no program of the step. */
  if (strcmp(name, "varve-sandbox") == 0 || strcmp(name, "varve-init") == 0 || strcmp(name, "varve-ahead") == 0) return 0;
  if (process->program != 0 && strcmp(record->programs[process->program - 1], name) == 0) return process->program;
  process->program = number_of(record, name);
  return process->program;
}

bool trace_is_listing(struct trace_record *record, uint32_t pid) {
  if (pid == 0) return false;
  struct trace_process *process = trace_process(record, pid);
  char text[256];
  ssize_t got = process->syscall < 0 ? -1 : pread(process->syscall, text, sizeof text - 1, 0);
  if (got <= 0) {
    if (process->syscall >= 0) close(process->syscall);
    process->syscall = open_proc(pid, "syscall");
    got = process->syscall < 0 ? -1 : pread(process->syscall, text, sizeof text - 1, 0);
  }
  if (got <= 0) return false;
  text[got] = '\0';
  /* `running`, or the number of the call that the thread waits in. A 32-bit program's own numbers are not known here. */
  char *end;
  long number = strtol(text, &end, 10);
  if (end == text) return false;
#ifdef SYS_getdents
  if (number == SYS_getdents) return true;
#endif
  return number == SYS_getdents64;
}

void trace_record_next(struct trace_record *record) { record->asked_by = NOBODY_YET; }

static uint16_t program_of(struct trace_record *record, uint32_t pid) {
  if (record->asked_by == NOBODY_YET) record->asked_by = pid == 0 ? 0 : read_program(record, pid);
  return (uint16_t)record->asked_by;
}

void trace_observe(struct trace_record *record, struct trace_node *node, uint8_t uses, uint32_t pid) {
  if ((node->uses | uses) == node->uses) return;
  /* Who reads says more than who looked first: a shell opens the file that it gives a program as its input. */
  uint16_t program = program_of(record, pid);
  if (program != 0) node->program = program;
  if (node->uses == 0) {
    node->observed_before = record->observed;
    record->observed = node;
    record->count++;
    if (node->type == TRACE_ABSENT && ++record->absent_count > MOST_ABSENT_NAMES) {
      record->lost = "the step looked for too many names that do not exist";
    }
  }
  node->uses |= uses;
}

static void put_observations(struct wire_out *out, const struct trace_record *record) {
  const struct trace_node **nodes = wire_allocate(record->count * sizeof *nodes);
  uint32_t at = record->count;
  for (const struct trace_node *node = record->observed; node != NULL; node = node->observed_before) nodes[--at] = node;
  wire_put_u32(out, record->count);
  static char path[PATH_MAX * 2];
  for (uint32_t i = 0; i < record->count; i++) {
    const char *start = trace_node_path(nodes[i], path, sizeof path);
    if (start == NULL) fail(ENAMETOOLONG, "trace-lost", NULL, "a path is too long");
    wire_put_text(out, start);
    wire_put_u8(out, nodes[i]->uses);
    wire_put_u16(out, nodes[i]->program);
  }
  free(nodes);
}

void trace_record_write(const struct trace_record *record, int fd) {
  struct wire_out out;
  wire_out_init(&out, fd);
  if (record->lost != NULL) {
    wire_put_u8(&out, 'U');
    wire_put_text(&out, record->lost);
    wire_flush(&out);
    return;
  }
  wire_put_u8(&out, 'O');
  wire_put_u32(&out, 0);
  wire_put_u32(&out, record->program_count);
  for (uint32_t i = 0; i < record->program_count; i++) wire_put_text(&out, record->programs[i]);
  put_observations(&out, record);
  wire_flush(&out);
  off_t size = lseek(fd, 0, SEEK_CUR) - 5;
  if (size < 0 || size > UINT32_MAX) fail(EFBIG, "trace-lost", NULL, "too much was looked at");
  unsigned char length[4];
  for (int i = 0; i < 4; i++) length[i] = (unsigned char)((uint64_t)size >> (8 * i));
  if (pwrite(fd, length, sizeof length, 1) != sizeof length) fail(errno, "trace-lost", NULL, "cannot write down what was read");
}
