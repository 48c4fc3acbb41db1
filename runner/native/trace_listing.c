#include <string.h>

#include "trace_reply.h"

#define LONGEST_ANSWER ((size_t)1024 * 1024)

/* A process that looks up most of what it lists after this many names walks the tree. */
#define ENOUGH_TO_TELL 16

/* DT_* of readdir(3), which are the type bits of a mode. */
static uint32_t entry_type(const struct trace_node *node) {
  static const uint8_t TYPES[] = {[TRACE_WHITEOUT] = 2, [TRACE_FILE] = 8,  [TRACE_FOLDER] = 4, [TRACE_SYMLINK] = 10,
                                  [TRACE_CHAR] = 2,     [TRACE_BLOCK] = 6, [TRACE_FIFO] = 1,   [TRACE_SOCKET] = 12};
  return TYPES[node->type];
}

struct answer {
  unsigned char *bytes;
  size_t length, most;
  bool with_entries; /* of FUSE_READDIRPLUS, where an entry without a node gives name and type alone */
};

/* Adds one name; false where there is no room for it. `entry` may be NULL. */
static bool add(struct answer *answer, const struct fuse_dirent *head, const void *name, const struct fuse_entry_out *entry) {
  static const struct fuse_entry_out NOTHING;
  size_t before = answer->with_entries ? sizeof(struct fuse_entry_out) : 0;
  size_t size = FUSE_DIRENT_ALIGN(before + FUSE_NAME_OFFSET + head->namelen);
  if (answer->length + size > answer->most) return false;
  unsigned char *at = answer->bytes + answer->length;
  if (answer->with_entries) memcpy(at, entry == NULL ? &NOTHING : entry, before);
  memcpy(at + before, head, FUSE_NAME_OFFSET);
  memcpy(at + before + FUSE_NAME_OFFSET, name, head->namelen);
  memset(at + before + FUSE_NAME_OFFSET + head->namelen, 0, size - before - FUSE_NAME_OFFSET - head->namelen);
  answer->length += size;
  return true;
}

/* `.` and `..`, at offsets 0 and 1. */
static void add_dots(struct answer *answer, const struct trace_node *folder, uint64_t offset) {
  const struct trace_node *parent = folder->parent == NULL ? folder : folder->parent;
  struct fuse_dirent dot = {.ino = trace_node_number(folder), .off = 1, .namelen = 1, .type = 4};
  struct fuse_dirent dots = {.ino = trace_node_number(parent), .off = 2, .namelen = 2, .type = 4};
  if (offset == 0) add(answer, &dot, ".", NULL);
  if (offset <= 1) add(answer, &dots, "..", NULL);
}

/*
 * Whether names are handed out with all that a look-up would tell, which saves a walker of the tree a question per file. Each
 * then counts as looked up, so nobody else shall get them.
 */
static bool wants_entries(struct trace_process *process, const struct trace_node *folder, uint64_t offset) {
  if (process->listed >= ENOUGH_TO_TELL && (uint64_t)process->looked_up * 2 > process->listed) return true;
  if (offset == 0) process->listed += folder->child_count;
  return false;
}

void trace_reply_listing(struct trace_server *server, const struct trace_request *request) {
  static unsigned char bytes[LONGEST_ANSWER];
  const struct fuse_read_in *in = (const struct fuse_read_in *)request->body;
  struct trace_node *folder = request->node;
  uint32_t pid = request->header->pid;
  struct answer answer = {.bytes = bytes, .most = in->size < LONGEST_ANSWER ? in->size : LONGEST_ANSWER};
  answer.with_entries = request->header->opcode == FUSE_READDIRPLUS;
  trace_observe(&server->record, folder, USE_LISTING, pid);
  bool is_ahead = (pid_t)pid == *server->ahead.reader;
  struct trace_process *process = trace_process(&server->record, pid);
  bool full = answer.with_entries && (is_ahead || wants_entries(process, folder, in->offset));
  folder->listed = true;
  if (folder->lister == 0 && !is_ahead) folder->lister = pid;
  struct trace_node **children = trace_tree_list(&server->tree, folder);
  if (full && in->offset == 0) trace_ahead_listed(&server->ahead, &server->tree, folder, process);
  add_dots(&answer, folder, in->offset);
  for (uint64_t i = in->offset < 2 ? 0 : in->offset - 2; i < folder->child_count; i++) {
    struct trace_node *child = children[i];
    struct fuse_dirent head = {.ino = trace_node_number(child), .off = i + 3, .namelen = child->name_length,
                               .type = entry_type(child)};
    struct fuse_entry_out entry;
    if (full) trace_fill_entry(child, &entry);
    if (!add(&answer, &head, child->name, full ? &entry : NULL)) break;
    if (full) trace_observe(&server->record, child, TRACE_LOOKED_UP, pid);
  }
  trace_reply(server, request, 0, answer.bytes, answer.length);
}
