/* Starting this program once more from a view of its file that nobody can write through. */
#ifndef VARVE_SEAL_H
#define VARVE_SEAL_H

/* The first argument of a command that runs from such a view. */
#define SEALED "sealed"

/*
 * Runs `command` of this program, with SEALED as its argument, from a read-only view of its own file. A program in a sandbox that gets
 * hold of /proc/PID/exe while that is still us (`#!/proc/self/exe`, CVE-2019-5736) can then not write to the file on the host. Returns
 * only where that failed, with errno.
 */
void seal(const char *command);

#endif
