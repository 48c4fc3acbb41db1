/*
 * What a sandbox shall be: SandboxSpec of core/sandbox.ts, with what the TypeScript side has settled for it (cgroups made,
 * files for /etc written, mounts ordered).
 *
 * On the wire, in this order: root mount (rootmount.h); u8 readonly root; u32 number of mounts, each u8 type, text target and
 *   'B': text source, u8 readonly          'T': u64 size (0: the kernel's default), u32 mode, u8 readonly, u8 devices
 *   'R': root mount, text path in it that is mounted (empty: all), u8 readonly
 *   'F': bytes, u32 mode, u32 uid, u32 gid
 * texts args; texts env; text cwd; u32 uid; u32 gid; u32 number of further groups, u32 each; text uid map and
 * text gid map of a user namespace, or nothing; u32 user outside of it, who owns pipes and terminal; text hostname;
 * u8 own network; u64 size of /dev/shm; u8 Docker's security; u8 no_new_privs; u32 number of resource
 * limits, each u32 resource, u64 soft, u64 hard (setrlimit(2), all bits set: unlimited); u32 number of devices that may be opened
 * beside the usual ones, each u8 'c' or 'b', u32 major, u32 minor; u8 io: 'P' pipes, 'T' terminal, 'I' inherited;
 * u8 whether standard input is given; u8 whether devices are kept from opening by the mount option nodev;
 * u8 whether the cgroup v2 folder gets a device filter; text cgroup v2 folder to start in, or nothing; texts cgroup.procs files
 * to join; texts leftovers.
 */
#ifndef VARVE_SANDBOX_SPEC_H
#define VARVE_SANDBOX_SPEC_H

#include "capabilities.h"
#include "rootmount.h"
#include "wire.h"

/* Of a tmpfs: the mode of the folder that it covers, or 1777 where it covers none. */
#define MODE_OF_PLACE UINT32_MAX

struct mount_spec {
  enum { MOUNT_BIND = 'B', MOUNT_TMPFS = 'T', MOUNT_TREE = 'R', MOUNT_FILE = 'F' } type;
  char *target; /* without a leading slash */
  bool readonly;
  char *source; /* of a bind: on the host; of a tree: the path in it, or empty */
  uint64_t size;
  uint32_t mode;
  bool devices; /* of a tmpfs: nodes in it may be opened */
  struct root_mount tree;
  unsigned char *content; /* of a file that lies in memory only */
  uint32_t content_size;
  uid_t uid;
  gid_t gid;
};

struct resource_limit {
  uint32_t resource;
  uint64_t soft, hard;
};

struct device_rule {
  enum { DEVICE_CHAR = 'c', DEVICE_BLOCK = 'b' } type;
  uint32_t major, minor;
};

struct sandbox_spec {
  struct root_mount root;
  bool readonly_root;
  struct mount_spec *mounts;
  uint32_t mount_count;
  char **args;
  char **env;
  char *cwd;
  struct identity identity;
  char *uid_map, *gid_map; /* lines of /proc/PID/uid_map; empty: no user namespace */
  uid_t io_owner;
  char *hostname;
  bool own_network;
  char **network_helper; /* the program that gives it a way out, with its arguments; empty: none */
  uint64_t shm_size;
  bool docker_security;
  bool no_new_privileges;
  struct resource_limit *resource_limits;
  uint32_t resource_limit_count;
  struct device_rule *devices;
  uint32_t device_count;
  enum { IO_PIPE = 'P', IO_TERMINAL = 'T', IO_INHERIT = 'I' } io;
  bool has_stdin;
  bool nodev;
  bool device_filter;
  char *unified_cgroup;
  char **cgroup_procs;
  /* Files and empty folders of this sandbox on the host, removed in this order when varve itself has died. */
  char **leftovers;
  bool tell_changes;
};

struct sandbox_spec sandbox_spec_read(struct wire_in *in);

#endif
