/*
 * The set-up of a sandbox as a list of operations: planned from the spec in one place, so that the order can be read and
 * judged, then carried out one by one (sandbox_setup.c) by the process that becomes the sandbox's init.
 */
#ifndef VARVE_SANDBOX_PLAN_H
#define VARVE_SANDBOX_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sandbox_spec.h"

enum operation_type {
  OP_PRIVATE_PROPAGATION, /* nothing that is mounted from here on is seen outside, nor the other way round */
  OP_JOIN_CGROUP,         /* source: a cgroup.procs file of the host */
  OP_CGROUP_NAMESPACE,
  OP_HOSTNAME,    /* source */
  OP_LOOPBACK_UP,
  OP_ATTACH_ROOT,
  OP_MOUNT,       /* a new file system `source` with `options` and `attributes` on the folder `target` */
  OP_PLACE,       /* the detached mount `fd`, or what lies at `source` in it, on `target` */
  OP_FILE,        /* the file of `mount`, in memory, on `target` */
  OP_NODE,        /* a character device `device` at `target` */
  OP_LINK,        /* a symlink at `target` to `source` */
  OP_FOLDER,      /* the folder `target`, 0755 */
  OP_PTMX_OPEN,   /* opens a new pseudo-terminal and passes its master side out */
  OP_HIDE,        /* `target` shows nothing: /dev/null over a file, an empty folder over a folder; absent is fine */
  OP_READONLY,    /* `target` and all mounts below it become read-only; absent is fine */
  OP_READONLY_ROOT,
  OP_PIVOT,       /* the root becomes `/`, and what was `/` is out of reach */
};

/* Name and value pairs for fsconfig(2), at most three; a pair without a value is a flag. */
struct mount_option {
  const char *name, *value;
};

struct operation {
  enum operation_type type;
  const char *target; /* inside the root, without a leading slash */
  const char *source;
  struct mount_option options[3];
  uint64_t attributes; /* MOUNT_ATTR_* */
  uint32_t mode;
  unsigned major, minor;
  int fd;
  bool plain; /* no symlink may lead to `target` */
  const struct mount_spec *mount;
};

struct plan {
  struct operation *operations;
  size_t count, capacity;
};

/* What was opened on the host before the namespaces were made; same order as the spec's mounts, -1 where nothing is needed. */
/* Devices that every sandbox has. */
#define SANDBOX_DEVICES 6

/* The path of one of them in the root. */
const char *sandbox_device(size_t index);

struct opened {
  int root;
  int *mounts;
  /* Parts of the host's own /sys and /dev, where the kernel lets nobody make new ones; else -1. */
  int sys, devices[SANDBOX_DEVICES];
};

/* The plan borrows texts from `spec` and lives as long. */
struct plan plan_sandbox(const struct sandbox_spec *spec, const struct opened *opened);

#endif
