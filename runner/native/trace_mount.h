/* The supervisor's side of tracing: mounts the file server's view of the traced diffs, starts the server, hears what it saw. */
#ifndef VARVE_TRACE_MOUNT_H
#define VARVE_TRACE_MOUNT_H

#include <stdbool.h>
#include <sys/types.h>

#include "rootmount.h"

struct trace {
  pid_t server; /* 0: none, or reaped */
  pid_t reader; /* reads ahead (trace_ahead.h); 0: none, or reaped */
  volatile pid_t *known; /* tells the server who reads ahead */
  int orders;   /* what is to be read ahead, while nobody does it; else -1 */
  int top;      /* what it is read of, likewise */
  int report;   /* a file in memory, which the server writes last; -1: nothing is traced */
  int status;   /* wait status of the server */
  bool stopped; /* the sandbox was told to end: what it read does not matter any more */
  char untraced[512]; /* why nothing is traced, where something should be */
};

/*
 * As root_mount_open, with the root's traced diffs, if it has any, shown by a file server: a child of this process that dies with
 * it. Where that cannot be had, mounts them like the other diffs; `trace->untraced` then tells why.
 */
int trace_open_root(struct trace *trace, const struct root_mount *root);

/*
 * As trace_open_root for a tree that is mounted by itself to be read: the file server's own mount, without an overlay. Below the traced
 * diffs of `root` are empty folders alone.
 */
int trace_open_tree(struct trace *trace, const struct root_mount *root);

/* For a tree of which nothing is traced yet. */
struct trace trace_none(void);

/* To be called when there is something to read in `trace->orders`: starts who reads ahead. Few steps need it. */
void trace_start_reader(struct trace *trace);

/* Closes what a child of this process must not have. */
void trace_close(const struct trace *trace);

/* Reaps the server if it has ended; true where it ended just now. */
bool trace_reap(struct trace *trace);

/* Kills the server: whoever waits for it gets an error. */
void trace_stop(struct trace *trace);

/*
 * Kills a server that was stopped by a signal and would let this process hang; to be called before the mount is touched
 * for the last time.
 */
void trace_unblock(struct trace *trace);

/*
 * To be called when nobody looks at the tree any more: ends the server and passes on to `control` what was read,
 * as a record 'O' (trace_record.h) or 'U', text reason; nothing where nothing was to be traced. `signals`: a signalfd for
 * SIGCHLD. False where the server was lost.
 */
bool trace_tell(struct trace *trace, int control, int signals);

#endif
