/* Files of /proc, opened inside a sandbox. */
#ifndef VARVE_PROC_FILE_H
#define VARVE_PROC_FILE_H

/*
 * Opens `path`, relative to /proc, for writing. What a mount of the user puts in the place of /proc or of the file is not opened, nor
 * what a symlink there leads to (CVE-2025-52881). A descriptor, or -1 with errno; ENOENT where /proc is none.
 */
int proc_open(const char *path);

#endif
