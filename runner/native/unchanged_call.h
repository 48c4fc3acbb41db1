/* Which call of varve this is, and where its store lies. */
#ifndef VARVE_UNCHANGED_CALL_H
#define VARVE_UNCHANGED_CALL_H

#include <limits.h>
#include <stdbool.h>

#include "sha256.h"

/*
 * The digest of all that a program is started with: its words, its environment (but for the shell's own account of itself), its work
 * folder, and the terminals that it writes to. cli/unchanged-call.ts takes the same of its own process. False where it cannot be told.
 */
bool unchanged_call(char **words, unsigned char digest[SHA256_BYTES]);

/* Where the store of the command line `words` probably lies: a wrong guess finds no note. False where there is no telling. */
bool unchanged_root(char **words, char root[PATH_MAX]);

#endif
