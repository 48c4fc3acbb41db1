/*
 * The traced diffs of a snapshot merged into one tree in memory, by the rules of OverlayFS: what the file server shows, and
 * where it notes what was looked at. Nodes are never freed, so their addresses can be handed out.
 */
#ifndef VARVE_TRACE_TREE_H
#define VARVE_TRACE_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "trace_manifest.h"

enum trace_type {
  TRACE_ABSENT, /* the traced diffs say nothing of this name: what lies below them shows through */
  TRACE_WHITEOUT,
  TRACE_FILE,
  TRACE_FOLDER,
  TRACE_SYMLINK,
  TRACE_CHAR,
  TRACE_BLOCK,
  TRACE_FIFO,
  TRACE_SOCKET,
};

/* The names that one diff gives to a file. */
struct trace_links {
  struct trace_link *names, *last; /* in path order */
  struct trace_node *first;        /* the first name that the merged tree shows */
  uint32_t shown;
};

struct trace_node {
  struct trace_node *parent, *in_bucket, *child, *sibling;
  struct trace_node **listing; /* children sorted by bytes, made when first asked for */
  struct trace_node *observed_before;
  struct trace_links *links;
  uint64_t hash;
  const unsigned char *name;
  uint64_t size;
  int64_t sec;
  struct manifest_text target, xattrs;
  uint32_t nsec, mode, uid, gid, major, minor, child_count;
  uint32_t position;      /* in the listing of its folder, once that was made */
  uint32_t passed; /* of a folder: files that were read or are read ahead (trace_ahead.h) */
  uint32_t lister; /* of a folder: the process that listed it first */
  uint16_t name_length;
  uint16_t program; /* that looked first; 0: unknown */
  uint16_t diff;    /* the folder that has its content: a number of trace_folder */
  uint8_t type;
  uint8_t uses;  /* USE of core/observation.ts */
  bool opaque;   /* a folder that hides what lies below the traced diffs */
  bool hides;    /* a folder with whiteouts */
  bool listed;   /* its names have been handed out */
  bool ordered;  /* it is read ahead */
  int16_t slot;  /* of its open content, plus one */
};

struct trace_tree {
  struct trace_node *root;
  struct trace_node **buckets;
  size_t bucket_count, node_count;
  unsigned char *block; /* of the arena: what is left of the newest one */
  size_t block_left;
  /* Some diff holds attributes, a whiteout or an opaque folder: overlayfs must be able to ask (`ObservedTree.isPlain`). */
  bool has_xattrs;
  /*
   * To be set before it is built: nothing lies below the diffs and no overlay above them, the tree is mounted by itself. Whiteouts and
   * opaque folders then hide nothing and are not shown, and extended attributes can always be asked for.
   */
  bool alone;
};

/*
 * Merges the manifests of the data folders `diffs`, topmost first. NULL, or words for people why this tree cannot be shown by
 * the file server.
 */
const char *trace_tree_build(struct trace_tree *tree, char *const *diffs, uint32_t count);

/* The number of the folder that files of the nth of `count` diffs lie in: its own, or that of a patch's original. */
uint16_t trace_folder(uint32_t nth, uint32_t count, bool of_original);

/* The node of `name` in `parent`; NULL where none was ever made. It may be TRACE_ABSENT. */
struct trace_node *trace_tree_find(const struct trace_tree *tree, const struct trace_node *parent, struct manifest_text name);

/* Makes an absent node for `name`, which `parent` has no node of. */
struct trace_node *trace_tree_add(struct trace_tree *tree, struct trace_node *parent, struct manifest_text name);

/* The children of a folder sorted by bytes, whiteouts among them. */
struct trace_node **trace_tree_list(struct trace_tree *tree, struct trace_node *folder);

/* The inode number: 47 bits, which with overlayfs' own bits make one of 64 that is the same in every mount. */
uint64_t trace_node_number(const struct trace_node *node);

/* Names that lead to the node's file. */
uint32_t trace_node_links(const struct trace_node *node);

/* Writes the path, NUL-terminated, to the end of `buffer`. Returns its start, or NULL where it does not fit. */
char *trace_node_path(const struct trace_node *node, char *buffer, size_t size);

#endif
