/* The folders of the machine that a build listed, and the files in them: whether lstat(2) still says the same of each. */
#ifndef VARVE_UNCHANGED_TREE_H
#define VARVE_UNCHANGED_TREE_H

#include <stdbool.h>
#include <sys/stat.h>

#include "unchanged_note.h"

/*
 * Takes a row's tuple: u64 device, inode, size, i64 nanoseconds of modification and of status change, u64 mode. `found` may be NULL: it
 * differs.
 */
bool note_row(struct note_bytes *facts, const struct stat *found);

/*
 * Takes a tree:
 *   text path as it was named, text where that led (realpath), u32 folders, and of each
 *     text path from the tree's, which is ".", the tuple of its row, u32 names
 *     a row for each name (core/stat-row.ts), and a block: the names, a NUL byte after each
 */
bool tree_is_unchanged(struct note_bytes *facts);

#endif
