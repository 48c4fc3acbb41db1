/*
 * Lists a folder: TreeOps.scanTree and scanDiff of core/native.ts.
 *
 * The result: u8 'L', u32 count, then that many records in path order (by bytes), then u8 'Z'. A record is
 *   u8 kind: 's' an entry, 'o' an entry whose folder is opaque, 'w' a whiteout (then only the path follows)
 *   text path, u32 st_mode, u32 uid, u32 gid, i64 seconds and u32 nanoseconds of mtime,
 *   for a regular file u64 size and u32 index of the record that it is a hard link to, or 0xffffffff,
 *   for other hard-linkable types that u32 index too (not for folders),
 *   for a symlink text target, for a device u32 major and u32 minor,
 *   u16 count of extended attributes, each text name and bytes value.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "commands.h"
#include "failure.h"
#include "tree_node.h"
#include "tree_path.h"
#include "tree_scan.h"
#include "wire.h"

#define NO_LINK UINT32_MAX

struct record {
  char *path;
  uint32_t path_length;
  char kind;
  uint16_t attribute_count;
  struct stat status;
  bool stands_in; /* for a device: see tree_node.h */
  char *target;
  unsigned char *attributes; /* in the form of the wire */
  uint32_t attributes_length;
};

struct scan {
  bool diff;
  bool user_xattrs;
  uint32_t most; /* records; with more the list is given up */
  dev_t device;
  struct record *records;
  uint32_t count, capacity;
  char names[XATTR_LIST_MAX];
  unsigned char value[XATTR_SIZE_MAX];
  char *path;
  size_t path_length, path_capacity;
};

static struct record *add_record(struct scan *scan) {
  if (scan->count == scan->capacity) {
    scan->capacity = scan->capacity == 0 ? 1024 : scan->capacity * 2;
    scan->records = wire_grow(scan->records, scan->capacity * sizeof *scan->records);
  }
  struct record *record = &scan->records[scan->count++];
  memset(record, 0, sizeof *record);
  record->kind = 's';
  record->path = wire_grow(NULL, scan->path_length + 1);
  if (scan->path_length > 0) memcpy(record->path, scan->path, scan->path_length);
  record->path[scan->path_length] = 0;
  record->path_length = (uint32_t)scan->path_length;
  return record;
}

static bool is_overlay_attribute(const char *name) {
  return strncmp(name, "trusted.overlay.", 16) == 0 || strncmp(name, "user.overlay.", 13) == 0;
}

/* Only the mark that the mount itself obeys: a build step can set the other one as it likes. */
static bool is_opaque_mark(const struct scan *scan, const char *name, const unsigned char *value, ssize_t size) {
  const char *mark = scan->user_xattrs ? "user.overlay.opaque" : "trusted.overlay.opaque";
  return strcmp(name, mark) == 0 && size == 1 && value[0] == 'y';
}

static void read_attributes(struct scan *scan, struct record *record, const char *file) {
  ssize_t listed = llistxattr(file, scan->names, sizeof scan->names);
  if (listed < 0 && errno != EOPNOTSUPP) tree_fail(record->path, "cannot list extended attributes");
  if (listed <= 0) return;
  struct wire_out out;
  wire_out_init(&out, -1);
  for (const char *name = scan->names; name < scan->names + listed; name += strlen(name) + 1) {
    ssize_t size = lgetxattr(file, name, scan->value, sizeof scan->value);
    if (size < 0 && errno == ENODATA) continue;
    if (size < 0) tree_fail(record->path, "cannot read an extended attribute");
    if (scan->diff && is_opaque_mark(scan, name, scan->value, size)) record->kind = 'o';
    if (scan->diff && is_overlay_attribute(name)) continue;
    if (record->stands_in && strcmp(name, STAND_IN) == 0) continue;
    wire_put_text(&out, name);
    wire_put_bytes(&out, scan->value, (uint32_t)size);
    record->attribute_count++;
  }
  record->attributes = out.buffer;
  record->attributes_length = (uint32_t)out.length;
}

static void read_target(struct record *record, int folder, const char *name) {
  char target[PATH_MAX];
  ssize_t size = readlinkat(folder, name, target, sizeof target - 1);
  if (size < 0) tree_fail(record->path, "cannot read the symlink");
  target[size] = 0;
  record->target = strdup(target);
  if (record->target == NULL) fail(ENOMEM, "out-of-memory", NULL, "cannot allocate a target");
}

static bool is_whiteout(const struct stat *status) { return S_ISCHR(status->st_mode) && status->st_rdev == 0; }

/* Lists `name` in `folder`; the path of it stands in scan->path. Returns whether it is a folder to go into. */
static bool read_entry(struct scan *scan, int folder, const char *name) {
  struct record *record = add_record(scan);
  if (fstatat(folder, name, &record->status, AT_SYMLINK_NOFOLLOW) < 0) tree_fail(record->path, "cannot look at it");
  char file[NAME_MAX + 64];
  snprintf(file, sizeof file, "/proc/self/fd/%d/%s", folder, name);
  record->stands_in = node_stood_for(file, &record->status);
  if (scan->diff && is_whiteout(&record->status)) {
    record->kind = 'w';
    return false;
  }
  read_attributes(scan, record, file);
  if (S_ISLNK(record->status.st_mode)) read_target(record, folder, name);
  return S_ISDIR(record->status.st_mode) && record->status.st_dev == scan->device;
}

static void push_name(struct scan *scan, const char *name) {
  size_t size = strlen(name);
  size_t wanted = scan->path_length + size + 2;
  if (wanted > scan->path_capacity) {
    scan->path_capacity = wanted * 2;
    scan->path = wire_grow(scan->path, scan->path_capacity);
  }
  if (scan->path_length > 0) scan->path[scan->path_length++] = '/';
  memcpy(scan->path + scan->path_length, name, size + 1);
  scan->path_length += size;
}

static void cut_path(struct scan *scan, size_t length) {
  scan->path_length = length;
  if (scan->path != NULL) scan->path[length] = 0;
}

/* Lists what the folder `fd`, which it closes, holds. */
static void walk(struct scan *scan, int fd) {
  DIR *stream = fdopendir(fd);
  if (stream == NULL) tree_fail(scan->path, "cannot read the folder");
  size_t length = scan->path_length;
  struct dirent *entry;
  while ((errno = 0, entry = readdir(stream)) != NULL && scan->count <= scan->most) {
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
    push_name(scan, entry->d_name);
    if (read_entry(scan, fd, entry->d_name)) {
      int below = openat(fd, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
      if (below < 0) tree_fail(scan->path, "cannot open the folder");
      walk(scan, below);
    }
    cut_path(scan, length);
  }
  if (errno != 0) tree_fail(scan->path, "cannot read the folder");
  closedir(stream);
}

static int by_path(const void *left, const void *right) {
  const struct record *a = left, *b = right;
  uint32_t shorter = a->path_length < b->path_length ? a->path_length : b->path_length;
  int order = memcmp(a->path, b->path, shorter);
  if (order != 0) return order;
  return a->path_length < b->path_length ? -1 : a->path_length > b->path_length;
}

static bool can_be_linked(const struct record *record) {
  return record->kind != 'w' && !S_ISDIR(record->status.st_mode) && record->status.st_nlink > 1;
}

/* For every record the first one in path order that is the same file, or NO_LINK. */
static uint32_t *find_links(const struct scan *scan) {
  uint32_t *links = wire_allocate(((size_t)scan->count + 1) * sizeof *links);
  size_t capacity = 16;
  while (capacity < (size_t)scan->count * 2) capacity *= 2;
  uint32_t *slots = wire_allocate(capacity * sizeof *slots);
  memset(slots, 0xff, capacity * sizeof *slots);
  for (uint32_t i = 0; i < scan->count; i++) {
    const struct record *record = &scan->records[i];
    links[i] = NO_LINK;
    if (!can_be_linked(record)) continue;
    uint64_t hash = (uint64_t)record->status.st_ino * 0x9e3779b97f4a7c15U;
    for (size_t at = (size_t)(hash >> 20);; at++) {
      uint32_t *slot = &slots[at & (capacity - 1)];
      if (*slot == NO_LINK) {
        *slot = i;
        break;
      }
      const struct stat *first = &scan->records[*slot].status;
      if (first->st_ino == record->status.st_ino && first->st_dev == record->status.st_dev) {
        links[i] = *slot;
        break;
      }
    }
  }
  free(slots);
  return links;
}

static void put_record(struct wire_out *out, const struct record *record, uint32_t link) {
  const struct stat *status = &record->status;
  wire_put_u8(out, (uint8_t)record->kind);
  wire_put_bytes(out, record->path, record->path_length);
  if (record->kind == 'w') return;
  wire_put_u32(out, status->st_mode);
  wire_put_u32(out, status->st_uid);
  wire_put_u32(out, status->st_gid);
  wire_put_u64(out, (uint64_t)status->st_mtim.tv_sec);
  wire_put_u32(out, (uint32_t)status->st_mtim.tv_nsec);
  if (S_ISREG(status->st_mode)) wire_put_u64(out, (uint64_t)status->st_size);
  if (!S_ISDIR(status->st_mode)) wire_put_u32(out, link);
  if (S_ISLNK(status->st_mode)) wire_put_text(out, record->target);
  if (S_ISCHR(status->st_mode) || S_ISBLK(status->st_mode)) {
    wire_put_u32(out, major(status->st_rdev));
    wire_put_u32(out, minor(status->st_rdev));
  }
  wire_put_u16(out, record->attribute_count);
  wire_put_encoded(out, record->attributes, record->attributes_length);
}

static void list(struct scan *scan, const char *folder) {
  static struct tree unused;
  int fd = host_open_folder(folder, O_RDONLY);
  if (fd < 0) tree_fail(folder, "cannot open the folder");
  tree_init(&unused, -1);
  struct stat status;
  if (fstat(fd, &status) < 0) tree_fail(folder, "cannot look at the folder");
  scan->device = status.st_dev;
  read_entry(scan, fd, ".");
  walk(scan, fd);
}

static void put_list(struct wire_out *out, struct scan *scan) {
  qsort(scan->records, scan->count, sizeof *scan->records, by_path);
  uint32_t *links = find_links(scan);
  wire_put_u8(out, 'L');
  wire_put_u32(out, scan->count);
  for (uint32_t i = 0; i < scan->count; i++) put_record(out, &scan->records[i], links[i]);
  wire_put_u8(out, 'Z');
}

static int scan_folder(bool diff) {
  static struct scan scan;
  struct wire_in in;
  wire_in_init(&in, STDIN_FILENO);
  char *folder = wire_text(&in);
  scan.user_xattrs = wire_u8(&in) != 0;
  scan.diff = diff;
  scan.most = UINT32_MAX;
  list(&scan, folder);
  struct wire_out out;
  wire_out_init(&out, STDOUT_FILENO);
  put_list(&out, &scan);
  wire_flush(&out);
  return 0;
}

bool tree_scan_few(struct wire_out *out, const char *folder, bool user_xattrs) {
  static struct scan scan;
  scan = (struct scan){.diff = true, .user_xattrs = user_xattrs, .most = FEW_RECORDS};
  list(&scan, folder);
  size_t size = 0;
  for (uint32_t i = 0; i < scan.count; i++) {
    const struct record *record = &scan.records[i];
    size += record->path_length + record->attributes_length + (record->target == NULL ? 0 : strlen(record->target));
  }
  if (scan.count > FEW_RECORDS || size > FEW_BYTES) return false;
  put_list(out, &scan);
  return true;
}

int tree_scan_diff_main(int argc, char **argv) {
  (void)argc;
  (void)argv;
  return scan_folder(true);
}

int tree_scan_plain_main(int argc, char **argv) {
  (void)argc;
  (void)argv;
  return scan_folder(false);
}
