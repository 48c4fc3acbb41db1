#ifndef VARVE_TREE_REMOVE_H
#define VARVE_TREE_REMOVE_H

/*
 * Removes what lies under `name` in `folder`, with all below it; symlinks are removed, not followed. Nothing there is no
 * error. Returns -1 with errno set on failure.
 */
int remove_below(int folder, const char *name);

#endif
