#define _GNU_SOURCE
#include "trace_reply.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>

/* Traced trees never change: the kernel may keep all that it was told. In seconds; it takes no more than fits its clock. */
#define FOR_EVER ((uint64_t)1 << 30)

#define BLOCK 4096

/* FOLDER_TIME of core/entry.ts: a folder's own time would tell of names that nobody looked at. */
#define FOLDER_TIME 315619200

void trace_reply(const struct trace_server *server, const struct trace_request *request, int error, const void *bytes,
                 size_t size) {
  if (error != 0) size = 0;
  struct fuse_out_header header = {.len = (uint32_t)(sizeof header + size), .error = error, .unique = request->header->unique};
  struct iovec parts[2] = {{&header, sizeof header}, {(void *)bytes, size}};
  /* ENOENT: the asker was killed meanwhile. Whatever else is wrong shows at the next read. */
  while (writev(server->fuse, parts, size == 0 ? 1 : 2) < 0 && errno == EINTR) continue;
}

static uint32_t type_bits(const struct trace_node *node) {
  switch (node->type) {
    case TRACE_FOLDER: return S_IFDIR;
    case TRACE_SYMLINK: return S_IFLNK;
    case TRACE_WHITEOUT:
    case TRACE_CHAR: return S_IFCHR;
    case TRACE_BLOCK: return S_IFBLK;
    case TRACE_FIFO: return S_IFIFO;
    case TRACE_SOCKET: return S_IFSOCK;
    default: return S_IFREG;
  }
}

static void fill_attributes(const struct trace_node *node, struct fuse_attr *attributes) {
  memset(attributes, 0, sizeof *attributes);
  attributes->ino = trace_node_number(node);
  attributes->mode = type_bits(node);
  attributes->nlink = trace_node_links(node);
  attributes->blksize = BLOCK;
  if (node->type == TRACE_WHITEOUT) return;
  attributes->mode |= node->mode;
  attributes->uid = node->uid;
  attributes->gid = node->gid;
  attributes->size = node->size;
  attributes->mtime = (uint64_t)node->sec;
  attributes->mtimensec = node->nsec;
  if (node->type == TRACE_FOLDER) {
    attributes->size = BLOCK;
    attributes->mtime = FOLDER_TIME;
    attributes->mtimensec = 0;
  }
  if (node->type == TRACE_SYMLINK) attributes->size = node->target.length;
  if (node->type == TRACE_CHAR || node->type == TRACE_BLOCK) attributes->rdev = (uint32_t)makedev(node->major, node->minor);
  attributes->atime = attributes->ctime = attributes->mtime;
  attributes->atimensec = attributes->ctimensec = attributes->mtimensec;
  /* As common file systems have it: whole blocks, none for a short target. */
  bool inlined = node->type == TRACE_SYMLINK && node->target.length < 60;
  if (!inlined) attributes->blocks = (attributes->size + BLOCK - 1) / BLOCK * (BLOCK / 512);
}

void trace_fill_entry(const struct trace_node *node, struct fuse_entry_out *entry) {
  memset(entry, 0, sizeof *entry);
  entry->entry_valid = FOR_EVER;
  /* Nodeid 0 says that there is no such name, and may be kept like any other answer. */
  if (node->type == TRACE_ABSENT) return;
  entry->nodeid = (uint64_t)(uintptr_t)node;
  entry->attr_valid = FOR_EVER;
  fill_attributes(node, &entry->attr);
}

void trace_reply_lookup(struct trace_server *server, const struct trace_request *request) {
  struct manifest_text name = {request->body, strnlen((const char *)request->body, request->size)};
  uint32_t pid = request->header->pid;
  static const struct trace_node NOTHING = {.type = TRACE_ABSENT};
  struct fuse_entry_out entry;
  struct trace_node *node = trace_tree_find(&server->tree, request->node, name);
  if (node == NULL && server->record.lost == NULL) node = trace_tree_add(&server->tree, request->node, name);
  trace_fill_entry(node == NULL ? &NOTHING : node, &entry);
  if (node != NULL && node->uses == 0 && request->node->listed && trace_is_listing(&server->record, pid)) {
    /* Whoever really looks at the name asks again, since this answer about it may not be kept. */
    entry.entry_valid = 0;
  } else if (node != NULL) {
    if (node->uses == 0 && request->node->listed) trace_process(&server->record, pid)->looked_up++;
    trace_observe(&server->record, node, TRACE_LOOKED_UP, pid);
  }
  trace_reply(server, request, 0, &entry, sizeof entry);
}

void trace_reply_attributes(struct trace_server *server, const struct trace_request *request) {
  struct fuse_attr_out out = {.attr_valid = FOR_EVER};
  trace_observe(&server->record, request->node, TRACE_LOOKED_UP, request->header->pid);
  fill_attributes(request->node, &out.attr);
  trace_reply(server, request, 0, &out, sizeof out);
}

/* The answer to a question for a value: it, or its size where no room was offered. */
static void reply_value(const struct trace_server *server, const struct trace_request *request, struct manifest_text value) {
  const struct fuse_getxattr_in *in = (const struct fuse_getxattr_in *)request->body;
  if (in->size == 0) {
    struct fuse_getxattr_out out = {.size = (uint32_t)value.length};
    trace_reply(server, request, 0, &out, sizeof out);
    return;
  }
  trace_reply(server, request, value.length > in->size ? -ERANGE : 0, value.bytes, value.length);
}

static bool is_private(struct manifest_text name) {
  static const char *const PREFIXES[] = {"trusted.overlay.", "user.overlay."};
  for (size_t i = 0; i < 2; i++) {
    size_t length = strlen(PREFIXES[i]);
    if (name.length >= length && memcmp(name.bytes, PREFIXES[i], length) == 0) return true;
  }
  return false;
}

/* What overlayfs asks of a folder: whether it is opaque, and whether whiteouts must be looked for in it. */
static bool private_value(const struct trace_server *server, const struct trace_node *node, const char *name,
                          struct manifest_text *value) {
  size_t prefix = strlen(server->prefix);
  if (strncmp(name, server->prefix, prefix) != 0) return false;
  *value = (struct manifest_text){(const unsigned char *)"y", 1};
  if (node->opaque && strcmp(name + prefix, "opaque") == 0) return true;
  /* A folder that no other layer has is shown as it is, whiteouts and all, unless it was copied up at some time. */
  value->length = 0;
  return node->hides && strcmp(name + prefix, "origin") == 0;
}

/*
 * Overlayfs asks for two attributes of every name that it looks up. Where no diff can have any, ENOSYS spares all of these requests; a
 * program that asks for one then hears EOPNOTSUPP instead of ENODATA, which is why it is part of what steps are compared by.
 */
void trace_reply_xattr(struct trace_server *server, const struct trace_request *request) {
  if (!server->tree.has_xattrs) {
    trace_reply(server, request, -ENOSYS, NULL, 0);
    return;
  }
  const char *wanted = (const char *)request->body + sizeof(struct fuse_getxattr_in);
  struct manifest_text xattrs = request->node->xattrs, name, value;
  if (private_value(server, request->node, wanted, &value)) {
    reply_value(server, request, value);
    return;
  }
  while (manifest_xattr(&xattrs, &name, &value)) {
    if (is_private(name) || strlen(wanted) != name.length || memcmp(wanted, name.bytes, name.length) != 0) continue;
    reply_value(server, request, value);
    return;
  }
  trace_reply(server, request, -ENODATA, NULL, 0);
}

void trace_reply_xattr_names(struct trace_server *server, const struct trace_request *request) {
  static unsigned char names[64 * 1024]; /* XATTR_LIST_MAX */
  size_t length = 0;
  struct manifest_text xattrs = request->node->xattrs, name, value;
  while (manifest_xattr(&xattrs, &name, &value)) {
    if (is_private(name) || length + name.length + 1 > sizeof names) continue;
    memcpy(names + length, name.bytes, name.length);
    names[length + name.length] = '\0';
    length += name.length + 1;
  }
  reply_value(server, request, (struct manifest_text){names, length});
}
