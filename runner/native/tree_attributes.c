#define _GNU_SOURCE
#include "tree_attributes.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "failure.h"
#include "user_namespace.h"

struct attributes attributes_read(struct wire_in *in) {
  struct attributes attributes = {.mode = wire_u32(in) & 07777, .extended = NULL};
  attributes.uid = wire_u32(in);
  attributes.gid = wire_u32(in);
  attributes.timed = wire_u8(in) != 0;
  if (attributes.timed) {
    attributes.time.tv_sec = wire_i64(in);
    attributes.time.tv_nsec = wire_u32(in);
  }
  attributes.count = wire_u16(in);
  if (attributes.count > 0) attributes.extended = wire_allocate(attributes.count * sizeof *attributes.extended);
  for (uint16_t i = 0; i < attributes.count; i++) {
    attributes.extended[i].name = wire_text(in);
    attributes.extended[i].value = wire_bytes(in, &attributes.extended[i].size);
  }
  return attributes;
}

void attributes_free(struct attributes *attributes) {
  for (uint16_t i = 0; i < attributes->count; i++) {
    free(attributes->extended[i].name);
    free(attributes->extended[i].value);
  }
  free(attributes->extended);
}

/* The l*xattr calls take paths only: the folder's descriptor makes one that leads nowhere else. */
struct proc_path {
  char text[NAME_MAX + 64];
};

static struct proc_path proc_path(const struct tree_place *place) {
  struct proc_path path;
  snprintf(path.text, sizeof path.text, "/proc/self/fd/%d/%s", place->folder, place->name);
  return path;
}

static bool is_listed(const struct attributes *attributes, const char *name) {
  for (uint16_t i = 0; i < attributes->count; i++) {
    if (strcmp(attributes->extended[i].name, name) == 0) return true;
  }
  return false;
}

/* What a security module keeps there is not ours to take away. */
static bool is_kept(const char *name) {
  return strcmp(name, "security.selinux") == 0 || strcmp(name, "security.ima") == 0 ||
         strcmp(name, "security.evm") == 0;
}

static void drop_unlisted(const struct attributes *attributes, const char *file, const char *path) {
  ssize_t size = llistxattr(file, NULL, 0);
  if (size <= 0) return;
  char *names = wire_allocate((size_t)size);
  size = llistxattr(file, names, (size_t)size);
  for (char *name = names; size > 0 && name < names + size; name += strlen(name) + 1) {
    if (is_listed(attributes, name) || is_kept(name)) continue;
    if (lremovexattr(file, name) < 0 && errno != ENODATA) tree_fail(path, "cannot remove an extended attribute");
  }
  free(names);
}

static void set_extended(const struct attributes *attributes, const struct tree_place *place,
                         struct attributes_target target) {
  if (attributes->count == 0 && !target.existed) return;
  struct proc_path file = proc_path(place);
  if (target.existed) drop_unlisted(attributes, file.text, target.path);
  for (uint16_t i = 0; i < attributes->count; i++) {
    const struct attribute *one = &attributes->extended[i];
    if (lsetxattr(file.text, one->name, one->value, one->size, 0) == 0) continue;
    char what[320];
    snprintf(what, sizeof what, "cannot set the extended attribute %.255s", one->name);
    tree_fail(target.path, what);
  }
}

void attributes_set(const struct attributes *attributes, const struct tree_place *place,
                    struct attributes_target target) {
  int folder = place->folder;
  if (fchownat(folder, place->name, attributes->uid, attributes->gid, AT_SYMLINK_NOFOLLOW) < 0) {
    if (errno == EINVAL && is_in_user_namespace()) {
      fail(0, "unmapped-id", target.path, "user %u or group %u is none that this user may use", attributes->uid, attributes->gid);
    }
    tree_fail(target.path, "cannot change the owner");
  }
  set_extended(attributes, place, target);
  if (target.type != S_IFLNK && fchmodat(folder, place->name, attributes->mode, 0) < 0)
    tree_fail(target.path, "cannot change the mode");
  if (target.type == S_IFDIR || !attributes->timed) return;
  struct timespec times[2] = {attributes->time, attributes->time};
  if (utimensat(folder, place->name, times, AT_SYMLINK_NOFOLLOW) < 0) tree_fail(target.path, "cannot set the time");
}
