#include "sandbox_spec.h"

#include "failure.h"

static struct mount_spec read_mount(struct wire_in *in) {
  uint8_t type = wire_u8(in);
  struct mount_spec mount = {.target = wire_text(in)};
  switch (type) {
    case 'B':
      mount.type = MOUNT_BIND;
      mount.source = wire_text(in);
      mount.readonly = wire_u8(in) != 0;
      return mount;
    case 'T':
      mount.type = MOUNT_TMPFS;
      mount.size = wire_u64(in);
      mount.mode = wire_u32(in);
      mount.readonly = wire_u8(in) != 0;
      mount.devices = wire_u8(in) != 0;
      return mount;
    case 'R':
      mount.type = MOUNT_TREE;
      mount.tree = root_mount_read(in);
      mount.source = wire_text(in);
      mount.readonly = wire_u8(in) != 0;
      return mount;
    case 'F':
      mount.type = MOUNT_FILE;
      mount.content = wire_bytes(in, &mount.content_size);
      mount.mode = wire_u32(in);
      mount.uid = wire_u32(in);
      mount.gid = wire_u32(in);
      return mount;
    default:
      fail(0, "protocol", NULL, "mount of unknown type %u", type);
  }
}

static struct identity read_identity(struct wire_in *in) {
  struct identity identity = {.uid = wire_u32(in)};
  identity.gid = wire_u32(in);
  identity.group_count = wire_u32(in);
  identity.groups = wire_allocate(identity.group_count * sizeof *identity.groups);
  for (size_t i = 0; i < identity.group_count; i++) identity.groups[i] = wire_u32(in);
  return identity;
}

static void read_resource_limits(struct wire_in *in, struct sandbox_spec *spec) {
  spec->resource_limit_count = wire_u32(in);
  spec->resource_limits = wire_allocate(spec->resource_limit_count * sizeof *spec->resource_limits);
  for (uint32_t i = 0; i < spec->resource_limit_count; i++) {
    struct resource_limit *limit = &spec->resource_limits[i];
    limit->resource = wire_u32(in);
    limit->soft = wire_u64(in);
    limit->hard = wire_u64(in);
  }
}

static void read_devices(struct wire_in *in, struct sandbox_spec *spec) {
  spec->device_count = wire_u32(in);
  spec->devices = wire_allocate(spec->device_count * sizeof *spec->devices);
  for (uint32_t i = 0; i < spec->device_count; i++) {
    struct device_rule *rule = &spec->devices[i];
    rule->type = wire_u8(in);
    rule->major = wire_u32(in);
    rule->minor = wire_u32(in);
  }
}

struct sandbox_spec sandbox_spec_read(struct wire_in *in) {
  struct sandbox_spec spec = {.root = root_mount_read(in)};
  uint32_t count;
  spec.readonly_root = wire_u8(in) != 0;
  spec.mount_count = wire_u32(in);
  spec.mounts = wire_allocate(spec.mount_count * sizeof *spec.mounts);
  for (uint32_t i = 0; i < spec.mount_count; i++) spec.mounts[i] = read_mount(in);
  spec.args = wire_texts(in, &count);
  if (count == 0) fail(0, "protocol", NULL, "no program to start");
  spec.env = wire_texts(in, &count);
  spec.cwd = wire_text(in);
  spec.identity = read_identity(in);
  spec.uid_map = wire_text(in);
  spec.gid_map = wire_text(in);
  spec.io_owner = wire_u32(in);
  spec.hostname = wire_text(in);
  spec.own_network = wire_u8(in) != 0;
  spec.network_helper = wire_texts(in, &count);
  spec.shm_size = wire_u64(in);
  spec.docker_security = wire_u8(in) != 0;
  spec.identity.default_capabilities = spec.docker_security;
  spec.no_new_privileges = wire_u8(in) != 0;
  read_resource_limits(in, &spec);
  read_devices(in, &spec);
  spec.io = wire_u8(in);
  spec.has_stdin = wire_u8(in) != 0;
  spec.nodev = wire_u8(in) != 0;
  spec.device_filter = wire_u8(in) != 0;
  spec.unified_cgroup = wire_text(in);
  spec.cgroup_procs = wire_texts(in, &count);
  spec.leftovers = wire_texts(in, &count);
  spec.tell_changes = wire_u8(in) != 0;
  return spec;
}
