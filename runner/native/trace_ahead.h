/*
 * Reading ahead for steps that read most of what they list (tar, cp, linters). Each question of the kernel that a program waits for
 * costs two switches between processes; where both CPUs are idle meanwhile, waking them takes longer than all the rest. So a second
 * process asks for the next files of the walk before the program does: their questions are answered in one go, and
 * the program finds the bytes in the page cache.
 *
 * All that is read ahead counts as read. In every window one file is left alone: only a program that gets there and reads it has
 * the next window read. Windows end with their folder until one process has walked through a few folders that it listed
 * itself; then they go on into the folders that follow, below the topmost one that it listed. A process that looks up all names
 * of folder after folder (find, du) has the next folders listed likewise.
 */
#ifndef VARVE_TRACE_AHEAD_H
#define VARVE_TRACE_AHEAD_H

#include <stdint.h>
#include <sys/types.h>

#include "trace_record.h"
#include "trace_tree.h"

#define TRACE_WALKS 8

/* A program that reads files, or lists folders, in the order of the listings. */
struct trace_walk {
  struct trace_node *probe; /* if this one is read or listed, the walk goes on; NULL: it is over */
  struct trace_node *next;  /* what comes then */
  uint32_t lister;          /* goes on to folders that this process listed; 0: stays in its own */
};

struct trace_ahead {
  int orders;   /* where paths are written to, or -1; those of folders end with a slash */
  const volatile pid_t *reader; /* who reads them; 0 until somebody does */
  bool walks;   /* some folder was read file by file */
  struct trace_walk known[TRACE_WALKS];
  uint32_t newest;
};

/* To be called when content of `node`, which was not read before, is asked for by `process`. */
void trace_ahead_note(struct trace_ahead *ahead, struct trace_tree *tree, struct trace_node *node, struct trace_process *process);

/* To be called when all that is known of the names in `folder` is about to be told to `process`, which asks for the first time. */
void trace_ahead_listed(struct trace_ahead *ahead, struct trace_tree *tree, struct trace_node *folder, struct trace_process *process);

/* The process that reads ahead: takes paths from `orders` until nobody can write any; reads these files of `mount`, lists these folders. */
_Noreturn void trace_ahead_read(int orders, int mount);

#endif
