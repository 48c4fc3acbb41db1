#define _GNU_SOURCE
#include "sandbox_plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <unistd.h>

#include "user_namespace.h"
#include "wire.h"

#define QUIET (MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC)

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* moby daemon/pkg/oci/defaults.go: they tell about the machine, not about the sandbox. */
static const char *const HIDDEN[] = {
    "proc/acpi",       "proc/asound",      "proc/interrupts",  "proc/kcore", "proc/keys",    "proc/latency_stats",
    "proc/sched_debug", "proc/scsi",        "proc/timer_list",  "proc/timer_stats", "sys/firmware",
    "sys/devices/virtual/powercap",
};

/* The same page: writing there would change the machine. */
static const char *const READ_ONLY[] = {"proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"};

/* OCI runtime-spec, config-linux.md, "Default Devices". */
static const struct {
  const char *path;
  unsigned major, minor;
} NODES[SANDBOX_DEVICES] = {{"dev/null", 1, 3},   {"dev/zero", 1, 5},    {"dev/full", 1, 7},
             {"dev/random", 1, 8}, {"dev/urandom", 1, 9}, {"dev/tty", 5, 0}};

/* The same specification, "Dev symbolic links". */
static const struct {
  const char *path, *target;
} LINKS[] = {{"dev/fd", "/proc/self/fd"},         {"dev/stdin", "/proc/self/fd/0"},
             {"dev/stdout", "/proc/self/fd/1"},   {"dev/stderr", "/proc/self/fd/2"},
             {"dev/ptmx", "pts/ptmx"},            {"dev/core", "/proc/kcore"}};

static void add(struct plan *plan, struct operation operation) {
  if (plan->count == plan->capacity) {
    plan->capacity = plan->capacity == 0 ? 64 : plan->capacity * 2;
    plan->operations = wire_grow(plan->operations, plan->capacity * sizeof *plan->operations);
  }
  plan->operations[plan->count++] = operation;
}

static const char *number(uint64_t value) {
  char *text;
  if (asprintf(&text, "%llu", (unsigned long long)value) < 0) abort();
  return text;
}

static const char *octal(uint32_t value) {
  char *text;
  if (asprintf(&text, "%o", value) < 0) abort();
  return text;
}

const char *sandbox_device(size_t index) { return NODES[index].path; }

static void plan_devices(struct plan *plan, const struct sandbox_spec *spec, const struct opened *opened) {
  add(plan, (struct operation){.type = OP_MOUNT, .source = "tmpfs", .target = "dev", .plain = true,
                               .attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_STRICTATIME,
                               .options = {{"mode", "755"}, {"size", "65536k"}}});
  for (size_t i = 0; i < COUNT(NODES); i++) {
    if (opened->devices[i] >= 0) {
      add(plan, (struct operation){.type = OP_PLACE, .target = NODES[i].path, .fd = opened->devices[i], .source = ""});
      continue;
    }
    add(plan, (struct operation){.type = OP_NODE, .target = NODES[i].path, .mode = 0666, .major = NODES[i].major,
                                 .minor = NODES[i].minor});
  }
  for (size_t i = 0; i < COUNT(LINKS); i++) {
    add(plan, (struct operation){.type = OP_LINK, .target = LINKS[i].path, .source = LINKS[i].target});
  }
  /* An instance of its own: the host's terminals are not in it. */
  struct operation terminals = {.type = OP_MOUNT, .source = "devpts", .target = "dev/pts",
                                .attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC,
                                .options = {{"ptmxmode", "0666"}, {"mode", "0620"}}};
  /* Debian's group of terminals; an ordinary user may have none but the own one. */
  if (is_group_mapped(5)) terminals.options[2] = (struct mount_option){"gid", "5"};
  add(plan, terminals);
  add(plan, (struct operation){.type = OP_MOUNT, .source = "tmpfs", .target = "dev/shm", .attributes = QUIET,
                               .options = {{"mode", "1777"}, {"size", number(spec->shm_size)}}});
  add(plan, (struct operation){.type = OP_MOUNT, .source = "mqueue", .target = "dev/mqueue", .attributes = QUIET});
}

static void plan_mount(struct plan *plan, const struct mount_spec *mount, int fd) {
  switch (mount->type) {
    case MOUNT_BIND:
    case MOUNT_TREE:
      add(plan, (struct operation){.type = OP_PLACE, .target = mount->target, .fd = fd,
                                   .source = mount->type == MOUNT_TREE ? mount->source : ""});
      return;
    case MOUNT_FILE:
      add(plan, (struct operation){.type = OP_FILE, .target = mount->target, .mount = mount});
      return;
    case MOUNT_TMPFS: {
      struct operation operation = {.type = OP_MOUNT, .source = "tmpfs", .target = mount->target, .attributes = QUIET,
                                    .options = {{"mode", octal(mount->mode)}}};
      operation.attributes &= ~(uint64_t)MOUNT_ATTR_NOEXEC;
      if (mount->devices) operation.attributes &= ~(uint64_t)MOUNT_ATTR_NODEV;
      if (mount->readonly) operation.attributes |= MOUNT_ATTR_RDONLY;
      if (mount->size != 0) operation.options[1] = (struct mount_option){"size", number(mount->size)};
      add(plan, operation);
      return;
    }
  }
}

static void plan_hiding(struct plan *plan) {
  for (size_t i = 0; i < COUNT(READ_ONLY); i++) {
    add(plan, (struct operation){.type = OP_READONLY, .target = READ_ONLY[i]});
  }
  for (size_t i = 0; i < COUNT(HIDDEN); i++) add(plan, (struct operation){.type = OP_HIDE, .target = HIDDEN[i]});
  /* How hot the processors run tells what others compute on them; one folder per CPU. */
  long cpus = sysconf(_SC_NPROCESSORS_CONF);
  for (long cpu = 0; cpu < cpus; cpu++) {
    char *path;
    if (asprintf(&path, "sys/devices/system/cpu/cpu%ld/thermal_throttle", cpu) < 0) abort();
    add(plan, (struct operation){.type = OP_HIDE, .target = path});
  }
}

struct plan plan_sandbox(const struct sandbox_spec *spec, const struct opened *opened) {
  struct plan plan = {0};
  /* Before anything is mounted: with shared propagation each mount would show up on the host. */
  add(&plan, (struct operation){.type = OP_PRIVATE_PROPAGATION});
  /* Limits hold from here on; the cgroup namespace must come after, since its root is the cgroup at the time of its making. */
  for (char **procs = spec->cgroup_procs; *procs != NULL; procs++) {
    add(&plan, (struct operation){.type = OP_JOIN_CGROUP, .source = *procs});
  }
  add(&plan, (struct operation){.type = OP_CGROUP_NAMESPACE});
  add(&plan, (struct operation){.type = OP_HOSTNAME, .source = spec->hostname});
  if (spec->own_network) add(&plan, (struct operation){.type = OP_LOOPBACK_UP});

  add(&plan, (struct operation){.type = OP_ATTACH_ROOT, .fd = opened->root});
  /* The kernel's own file systems take their places before what the user mounts, which may lie on top of them. A symlink there
   * would let an image choose where they go and make the hiding below miss its target (CVE-2019-19921). */
  add(&plan, (struct operation){.type = OP_MOUNT, .source = "proc", .target = "proc", .attributes = QUIET, .plain = true});
  if (opened->sys >= 0) {
    add(&plan, (struct operation){.type = OP_PLACE, .fd = opened->sys, .source = "", .target = "sys", .plain = true});
  } else {
    add(&plan, (struct operation){.type = OP_MOUNT, .source = "sysfs", .target = "sys", .plain = true,
                                  .attributes = QUIET | (spec->docker_security ? MOUNT_ATTR_RDONLY : 0)});
  }
  plan_devices(&plan, spec, opened);
  if (spec->io == IO_TERMINAL) add(&plan, (struct operation){.type = OP_PTMX_OPEN});
  /* Hidden before the user's mounts come: these may not lie between us and what is to be hidden. */
  if (spec->docker_security) plan_hiding(&plan);
  for (uint32_t i = 0; i < spec->mount_count; i++) plan_mount(&plan, &spec->mounts[i], opened->mounts[i]);
  add(&plan, (struct operation){.type = OP_FOLDER, .target = spec->cwd});
  /* After the last place was made in it. */
  if (spec->readonly_root) add(&plan, (struct operation){.type = OP_READONLY_ROOT});
  /* Last: up to here host paths and descriptors are needed, from here on there are none. */
  add(&plan, (struct operation){.type = OP_PIVOT});
  return plan;
}
