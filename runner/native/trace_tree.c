#define _GNU_SOURCE
#include "trace_tree.h"

#include <stdlib.h>
#include <limits.h>
#include <string.h>

#include "wire.h"

#define BLOCK ((size_t)1024 * 1024)
#define DEEPEST 2048 /* folders; PATH_MAX allows no more */

static const char BROKEN[] = "the list of a diff's files does not make a tree";

struct trace_link {
  struct trace_node *node;
  struct trace_link *next;
};

static void *allocate(struct trace_tree *tree, size_t size) {
  size = (size + 7) & ~(size_t)7;
  if (size > tree->block_left) {
    tree->block_left = size > BLOCK ? size : BLOCK;
    tree->block = wire_allocate(tree->block_left);
  }
  void *memory = tree->block;
  tree->block += size;
  tree->block_left -= size;
  return memory;
}

/* FNV-1a over the path: the hash of a child goes on where its folder's ended. */
static uint64_t hash_name(uint64_t folder, struct manifest_text name) {
  const uint64_t prime = 0x100000001b3;
  uint64_t hash = (folder ^ '/') * prime;
  for (size_t i = 0; i < name.length; i++) hash = (hash ^ name.bytes[i]) * prime;
  return hash;
}

/* FNV is weak in its high bits for short names: the finalizer of MurmurHash3 spreads them. */
static uint64_t spread(uint64_t hash) {
  hash = (hash ^ hash >> 33) * 0xff51afd7ed558ccd;
  hash = (hash ^ hash >> 33) * 0xc4ceb9fe1a85ec53;
  return hash ^ hash >> 33;
}

static struct trace_node **bucket_of(const struct trace_tree *tree, uint64_t hash) {
  return &tree->buckets[spread(hash) & (tree->bucket_count - 1)];
}

static struct trace_node *find_hashed(const struct trace_tree *tree, const struct trace_node *parent, struct manifest_text name,
                                      uint64_t hash) {
  struct trace_node *node = *bucket_of(tree, hash);
  while (node != NULL && !(node->hash == hash && node->parent == parent && node->name_length == name.length &&
                           memcmp(node->name, name.bytes, name.length) == 0)) {
    node = node->in_bucket;
  }
  return node;
}

struct trace_node *trace_tree_find(const struct trace_tree *tree, const struct trace_node *parent, struct manifest_text name) {
  return find_hashed(tree, parent, name, hash_name(parent->hash, name));
}

static void resize(struct trace_tree *tree, size_t count) {
  struct trace_node **old = tree->buckets;
  size_t old_count = tree->bucket_count;
  tree->buckets = wire_allocate(count * sizeof *tree->buckets);
  tree->bucket_count = count;
  for (size_t i = 0; i < old_count; i++) {
    for (struct trace_node *node = old[i], *next; node != NULL; node = next) {
      next = node->in_bucket;
      struct trace_node **bucket = bucket_of(tree, node->hash);
      node->in_bucket = *bucket;
      *bucket = node;
    }
  }
  free(old);
}

static struct trace_node *add_hashed(struct trace_tree *tree, struct trace_node *parent, struct manifest_text name,
                                     uint64_t hash) {
  if (tree->node_count >= tree->bucket_count) resize(tree, tree->bucket_count * 2);
  struct trace_node *node = allocate(tree, sizeof *node + name.length);
  unsigned char *copy = (unsigned char *)(node + 1);
  memcpy(copy, name.bytes, name.length);
  node->name = copy;
  node->name_length = (uint16_t)name.length;
  node->hash = hash;
  node->parent = parent;
  struct trace_node **bucket = bucket_of(tree, hash);
  node->in_bucket = *bucket;
  *bucket = node;
  tree->node_count++;
  return node;
}

struct trace_node *trace_tree_add(struct trace_tree *tree, struct trace_node *parent, struct manifest_text name) {
  return add_hashed(tree, parent, name, hash_name(parent->hash, name));
}

/* Where the path before led: folders from the root on, each with the length of its path. */
struct way {
  struct {
    struct trace_node *node;
    size_t length;
  } steps[DEEPEST];
  size_t depth;
  bool all_new; /* no diff was merged before this one, and a manifest sets each name once */
};

/*
 * The node of a record's path, made where it is new. NULL where the folder that it lies in is not in the tree. Paths come in
 * order and mostly in the folder of the one before, which is then not looked up again.
 */
static struct trace_node *node_of(struct trace_tree *tree, struct way *way, const struct manifest_record *record) {
  bool new = way->all_new && record->kind != MANIFEST_OPAQUE;
  const unsigned char *path = record->path.bytes;
  size_t length = record->path.length;
  if (length == 0) return tree->root;
  while (way->depth > 1) {
    size_t ends = way->steps[way->depth - 1].length;
    if (ends <= record->shared && ends < length && path[ends] == '/') break;
    way->depth--;
  }
  struct trace_node *node = way->steps[way->depth - 1].node;
  size_t at = way->depth == 1 ? 0 : way->steps[way->depth - 1].length + 1;
  for (;;) {
    const unsigned char *slash = memchr(path + at, '/', length - at);
    size_t end = slash == NULL ? length : (size_t)(slash - path);
    struct manifest_text name = {path + at, end - at};
    if (name.length == 0 || name.length > UINT8_MAX || node->type != TRACE_FOLDER) return NULL;
    uint64_t hash = hash_name(node->hash, name);
    struct trace_node *found = slash == NULL && new ? NULL : find_hashed(tree, node, name, hash);
    if (slash == NULL) return found != NULL ? found : add_hashed(tree, node, name, hash);
    if (found == NULL || way->depth == DEEPEST) return NULL;
    node = found;
    way->steps[way->depth].node = node;
    way->steps[way->depth++].length = end;
    at = end + 1;
  }
}

/* Nothing that was in the folder is there any more. */
static void drop_children(struct trace_node *folder) {
  for (struct trace_node *child = folder->child, *next; child != NULL; child = next) {
    next = child->sibling;
    drop_children(child);
    child->type = TRACE_ABSENT;
    child->opaque = false;
    child->links = NULL;
    child->sibling = NULL;
  }
  folder->child = NULL;
  folder->child_count = 0;
}

static void set_type(struct trace_node *node, enum trace_type type) {
  if (node->type == TRACE_ABSENT && node->parent != NULL) {
    node->sibling = node->parent->child;
    node->parent->child = node;
    node->parent->child_count++;
  }
  if (type != TRACE_FOLDER) {
    drop_children(node);
    node->opaque = false;
  } else if (node->type != TRACE_ABSENT && node->type != TRACE_FOLDER) {
    /* A whiteout, or what is no folder, ends what lies further below. */
    node->opaque = true;
  }
  node->type = (uint8_t)type;
  node->links = NULL;
}

static struct trace_node *find_path(const struct trace_tree *tree, struct manifest_text path) {
  struct trace_node *node = tree->root;
  const unsigned char *at = path.bytes, *end = path.bytes + path.length;
  while (at < end && node != NULL) {
    const unsigned char *slash = memchr(at, '/', (size_t)(end - at));
    const unsigned char *stop = slash == NULL ? end : slash;
    node = trace_tree_find(tree, node, (struct manifest_text){at, (size_t)(stop - at)});
    at = slash == NULL ? end : slash + 1;
  }
  return node;
}

static void append_link(struct trace_tree *tree, struct trace_links *links, struct trace_node *node) {
  struct trace_link *link = allocate(tree, sizeof *link);
  link->node = node;
  if (links->last == NULL) links->names = link;
  else links->last->next = link;
  links->last = link;
  node->links = links;
}

static bool join_links(struct trace_tree *tree, struct trace_node *node, const struct manifest_record *record) {
  struct trace_node *first = find_path(tree, record->first);
  /* Folders, and with them the root, have one name. */
  if (first == NULL || first->diff != node->diff || first->type != node->type || node->type == TRACE_FOLDER) return false;
  if (first->links == NULL) append_link(tree, allocate(tree, sizeof *first->links), first);
  append_link(tree, first->links, node);
  return true;
}

static const char *take_entry(struct trace_tree *tree, struct trace_node *node, const struct manifest_record *record) {
  static const uint8_t TYPES[] = {TRACE_FILE, TRACE_FOLDER, TRACE_SYMLINK, TRACE_CHAR, TRACE_BLOCK, TRACE_FIFO, TRACE_SOCKET};
  set_type(node, TYPES[record->kind]);
  if (node->opaque) tree->has_xattrs = true;
  node->mode = record->mode & 07777;
  node->uid = record->uid;
  node->gid = record->gid;
  node->sec = record->sec;
  node->nsec = record->nsec;
  node->size = record->size;
  node->major = record->major;
  node->minor = record->minor;
  node->target = record->target;
  node->xattrs = record->xattrs;
  if (record->xattrs.length > 0) tree->has_xattrs = true;
  struct manifest_text xattrs = record->xattrs, name, value;
  while (manifest_xattr(&xattrs, &name, &value)) {
    static const char ACL[] = "system.posix_acl_";
    if (name.length >= sizeof ACL - 1 && memcmp(name.bytes, ACL, sizeof ACL - 1) == 0) {
      return "a file of the traced layers has an access control list";
    }
  }
  return record->first.bytes != NULL && !join_links(tree, node, record) ? BROKEN : NULL;
}

uint16_t trace_folder(uint32_t nth, uint32_t count, bool of_original) { return (uint16_t)(of_original ? count + nth : nth); }

/* The folders that a diff's files lie in: those that are its own, and the others. */
struct places {
  uint16_t own, others;
};

static const char *take_record(struct trace_tree *tree, struct way *way, const struct manifest_record *record, struct places places) {
  struct trace_node *node = node_of(tree, way, record);
  if (node == NULL) return BROKEN;
  if (record->kind == MANIFEST_WHITEOUT || record->kind == MANIFEST_OPAQUE) tree->has_xattrs = true;
  switch (record->kind) {
    case MANIFEST_WHITEOUT:
      set_type(node, TRACE_WHITEOUT);
      return NULL;
    case MANIFEST_OPAQUE:
      if (node->type != TRACE_FOLDER) return BROKEN;
      drop_children(node);
      node->opaque = true;
      return NULL;
    default: break;
  }
  node->diff = record->own ? places.own : places.others;
  return take_entry(tree, node, record);
}

static const char *merge(struct trace_tree *tree, struct manifest *manifest, struct places places) {
  static struct way way;
  way.depth = 1;
  way.all_new = tree->node_count == 0;
  way.steps[0].node = tree->root;
  way.steps[0].length = 0;
  struct manifest_record record;
  for (uint64_t i = 0; i < manifest->count; i++) {
    if (!manifest_next(manifest, &record)) return BROKEN;
    /* No system call could open it by its path. */
    if (record.path.length >= PATH_MAX) return "a path in the traced layers is too long";
    const char *problem = take_record(tree, &way, &record, places);
    if (problem != NULL) return problem;
  }
  record = manifest->root;
  return take_entry(tree, tree->root, &record);
}

/* Once all is merged: which of a file's names are left, and what must be told about folders. */
static void settle(struct trace_tree *tree) {
  for (size_t i = 0; i < tree->bucket_count; i++) {
    for (struct trace_node *node = tree->buckets[i]; node != NULL; node = node->in_bucket) {
      if (node->type == TRACE_WHITEOUT) node->parent->hides = true;
      struct trace_links *links = node->links;
      if (links == NULL || links->first != NULL) continue;
      for (struct trace_link *link = links->names; link != NULL; link = link->next) {
        if (link->node->links != links) continue;
        if (links->first == NULL) links->first = link->node;
        links->shown++;
      }
    }
  }
}

static void drop_whiteouts(struct trace_node *folder) {
  folder->opaque = false;
  for (struct trace_node **at = &folder->child; *at != NULL;) {
    struct trace_node *child = *at;
    if (child->type != TRACE_WHITEOUT) {
      at = &child->sibling;
      continue;
    }
    *at = child->sibling;
    child->sibling = NULL;
    child->type = TRACE_ABSENT;
    folder->child_count--;
  }
}

static void stand_alone(struct trace_tree *tree) {
  tree->has_xattrs = true;
  drop_whiteouts(tree->root);
  for (size_t i = 0; i < tree->bucket_count; i++) {
    for (struct trace_node *node = tree->buckets[i]; node != NULL; node = node->in_bucket) {
      if (node->type == TRACE_FOLDER) drop_whiteouts(node);
    }
  }
}

const char *trace_tree_build(struct trace_tree *tree, char *const *diffs, uint32_t count) {
  struct manifest *manifests = wire_allocate(count * sizeof *manifests);
  uint64_t records = 0;
  if (count > UINT16_MAX / 2) return "too many traced layers";
  for (uint32_t i = 0; i < count; i++) {
    const char *problem = manifest_open(&manifests[i], diffs[i]);
    if (problem != NULL) return problem;
    records += manifests[i].count;
  }
  size_t buckets = 1024;
  while (buckets < records) buckets *= 2;
  resize(tree, buckets);
  tree->root = allocate(tree, sizeof *tree->root);
  tree->root->type = TRACE_FOLDER;
  tree->root->name = (const unsigned char *)"";
  tree->root->hash = 0xcbf29ce484222325;
  for (uint32_t i = count; i > 0; i--) {
    char *original = manifest_original(diffs[i - 1]);
    struct places places = {.own = trace_folder(i - 1, count, false), .others = trace_folder(i - 1, count, original != NULL)};
    free(original);
    const char *problem = merge(tree, &manifests[i - 1], places);
    if (problem != NULL) return problem;
  }
  if (tree->alone) stand_alone(tree);
  settle(tree);
  free(manifests);
  return NULL;
}

static int compare_names(const void *left, const void *right) {
  const struct trace_node *a = *(struct trace_node *const *)left, *b = *(struct trace_node *const *)right;
  size_t common = a->name_length < b->name_length ? a->name_length : b->name_length;
  int order = memcmp(a->name, b->name, common);
  return order != 0 ? order : (int)a->name_length - (int)b->name_length;
}

struct trace_node **trace_tree_list(struct trace_tree *tree, struct trace_node *folder) {
  if (folder->listing != NULL) return folder->listing;
  folder->listing = allocate(tree, (folder->child_count + 1) * sizeof(struct trace_node *));
  /* Each child was put before the one that came earlier in path order: mostly they are in order now. */
  uint32_t at = folder->child_count;
  bool sorted = true;
  for (struct trace_node *child = folder->child; child != NULL; child = child->sibling) {
    folder->listing[--at] = child;
    if (child->sibling != NULL && compare_names(&child->sibling, &child) > 0) sorted = false;
  }
  if (!sorted) qsort(folder->listing, folder->child_count, sizeof(struct trace_node *), compare_names);
  for (uint32_t i = 0; i < folder->child_count; i++) folder->listing[i]->position = i;
  return folder->listing;
}

uint64_t trace_node_number(const struct trace_node *node) {
  if (node->links != NULL) node = node->links->first;
  uint64_t number = spread(node->hash) >> 17;
  return number < 16 ? number + 16 : number;
}

uint32_t trace_node_links(const struct trace_node *node) { return node->links == NULL ? 1 : node->links->shown; }

char *trace_node_path(const struct trace_node *node, char *buffer, size_t size) {
  char *at = buffer + size - 1;
  *at = '\0';
  for (; node->parent != NULL; node = node->parent) {
    if ((size_t)(at - buffer) < (size_t)node->name_length + 1) return NULL;
    if (*at != '\0') *--at = '/';
    at -= node->name_length;
    memcpy(at, node->name, node->name_length);
  }
  return at;
}
