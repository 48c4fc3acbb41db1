/* What is traced in a sandbox: its root, and each tree that is mounted in it. */
#ifndef VARVE_SANDBOX_TRACES_H
#define VARVE_SANDBOX_TRACES_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

#include "sandbox_spec.h"
#include "trace_mount.h"

struct traces {
  struct trace *all; /* of the root, then of the mounts in their order */
  uint32_t count;
};

/* For a sandbox with so many mounts, of which nothing is traced yet. */
struct traces traces_of(uint32_t mounts);

static inline struct trace *trace_of_root(const struct traces *traces) { return &traces->all[0]; }
static inline struct trace *trace_of_mount(const struct traces *traces, uint32_t mount) { return &traces->all[mount + 1]; }

/* Closes what a child of the supervisor must not have. */
void traces_close(const struct traces *traces);

/* What to wait for: one for each trace, with an fd of -1 where there is nothing to wait for. */
void traces_interest(const struct traces *traces, struct pollfd *polled);

/* As trace_start_reader, where poll(2) has found something to read. */
void traces_start_readers(const struct traces *traces, const struct pollfd *polled);

/* As trace_reap, trace_stop and trace_unblock, of all. */
bool traces_reap(const struct traces *traces);
void traces_stop(const struct traces *traces);
void traces_unblock(const struct traces *traces);

/* As trace_tell, of all until one is lost: before the record of a mount, 'M' and text target. */
bool traces_tell(const struct traces *traces, const struct sandbox_spec *spec, int control, int signals);

#endif
