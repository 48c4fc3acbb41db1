/* What was looked at in a traced tree, and by whom. */
#ifndef VARVE_TRACE_RECORD_H
#define VARVE_TRACE_RECORD_H

#include "trace_tree.h"

/* USE of core/observation.ts. */
enum trace_use {
  USE_METADATA = 1,
  USE_ATTRIBUTES = 2,
  USE_CONTENT = 4,
  USE_LISTING = 8,
  USE_TARGET = 16,
};

#define TRACE_LOOKED_UP (USE_METADATA | USE_ATTRIBUTES)

/* More names that do not exist are not kept in memory: the trace is given up. */
#define MOST_ABSENT_NAMES 500000

#define PROGRAM_NAME 16 /* TASK_COMM_LEN of the kernel, with a NUL */
#define KNOWN_PROCESSES 64

struct trace_process {
  uint32_t pid;
  int comm, syscall; /* descriptors of its files in /proc, or -1 */
  uint16_t program;
  /* Names that were listed for it, and how many of these it looked up afterwards. */
  uint32_t listed, looked_up;
  /* Folders that it listed and read file by file; the one that it lists next if it walks through the tree, as it did so many times. */
  uint32_t walked;
  struct trace_node *next_folder;
  uint32_t in_row;
};

struct trace_record {
  struct trace_node *observed; /* newest first */
  uint32_t count, absent_count;
  const char *lost; /* why the trace is worth nothing, or NULL */
  struct trace_process processes[KNOWN_PROCESSES];
  char (*programs)[PROGRAM_NAME];
  uint32_t program_count;
  int32_t asked_by; /* the program of the question that is being answered, once it was needed */
};

#define NOBODY_YET (-1)

void trace_record_init(struct trace_record *record);

/* What is known of the process (thread) `pid`; of a recent one with the same place in the table, nothing is kept. */
struct trace_process *trace_process(struct trace_record *record, uint32_t pid);

/* The next question is not, or may not be, of the same program. */
void trace_record_next(struct trace_record *record);

/*
 * Whether the thread is in the middle of getdents(2). Overlayfs looks up each name of a merged folder when it is listed, for the
 * inode number alone: the program gets to know no more than the name.
 */
bool trace_is_listing(struct trace_record *record, uint32_t pid);

/* Notes `uses` of the node by `pid`. */
void trace_observe(struct trace_record *record, struct trace_node *node, uint8_t uses, uint32_t pid);

/*
 * Writes the record of sandbox.c to `fd`, an empty file: 'O', u32 size of what follows; u32 number of programs, a text each;
 * u32 number of paths; of each text path, u8 uses, u16 program that looked first (from 1 on; 0: unknown), in the order of the
 * first look. Or, where the trace was given up: 'U', text reason.
 */
void trace_record_write(const struct trace_record *record, int fd);

#endif
