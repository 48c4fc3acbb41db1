/*
 * Reading ahead for steps that read most of what they list (tar, cp, linters). Each question of the kernel that a program waits for
 * costs two switches between processes; where both CPUs are idle meanwhile, waking them takes longer than all the rest. So a second
 * process asks for the next files of the folder before the program does: their questions are answered in one go, and
 * the program finds the bytes in the page cache.
 *
 * All that is read ahead counts as read. In every window one file is left alone: only a program that gets there and reads it has
 * the next window read.
 */
#ifndef VARVE_TRACE_AHEAD_H
#define VARVE_TRACE_AHEAD_H

#include <stdint.h>
#include <sys/types.h>

#include "trace_tree.h"

struct trace_ahead {
  int orders;   /* where paths are written to, or -1 */
  pid_t reader; /* who reads them */
  bool walks;   /* some folder was read file by file */
};

/* To be called when content of `node`, which was not read before, is asked for by process `pid`. */
void trace_ahead_note(struct trace_ahead *ahead, struct trace_tree *tree, struct trace_node *node, uint32_t pid);

/* The process that reads ahead: takes paths from `orders` until nobody can write any, and reads these files of `mount`. */
_Noreturn void trace_ahead_read(int orders, int mount);

#endif
