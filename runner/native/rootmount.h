/*
 * How the root of a sandbox, or a tree to be changed, comes about: RootMount of core/mount.ts.
 *
 * On the wire: u8 'D', text path, u8 readonly;
 *          or: u8 'O', texts lowers (topmost first), texts traced (above the lowers, topmost first), u8 writable,
 *              where writable text upper and text work, u8 userxattrs.
 */
#ifndef VARVE_ROOTMOUNT_H
#define VARVE_ROOTMOUNT_H

#include <stdbool.h>
#include <stdint.h>

#include "wire.h"

struct root_mount {
  enum { ROOT_DIRECTORY, ROOT_OVERLAY } type;
  char *directory;
  bool readonly;
  /* All that are mounted where no other mount shows the traced diffs: theirs first, none of them twice, which the kernel refuses. */
  char **lowers;
  uint32_t lower_count;
  /* Those below the traced diffs. */
  char **below;
  uint32_t below_count;
  /* Data folders of the traced diffs. */
  char **traced;
  uint32_t traced_count;
  char *upper, *work; /* NULL where the tree is read-only */
  bool user_xattrs;
};

struct root_mount root_mount_read(struct wire_in *in);

/*
 * Mounts the tree and returns a descriptor (close-on-exec) of its root. The mount is attached nowhere: it ends when the last
 * descriptor is closed, and move_mount(2) can place it. Needs CAP_SYS_ADMIN in the user namespace of the mount
 * namespace. Fails with code `mount-failed`.
 *
 * Writable overlays are mounted `volatile`: fsync does nothing there. What lies in an upper folder is thrown away when its
 * process dies, so nothing has to survive a power cut until it is committed.
 */
int root_mount_open(const struct root_mount *root);

/*
 * As root_mount_open for an overlay, with the mount `top` (attached nowhere) in the place of its traced diffs; `top` stays open. -1 with
 * errno where the kernel refuses.
 */
int root_mount_open_on(const struct root_mount *root, int top);

/* As root_mount_open, but a plain directory is opened as it is: works without privileges. For reading and changing trees. */
int root_mount_open_tree(const struct root_mount *root);

#endif
