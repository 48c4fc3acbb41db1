/* Listing a folder within another command; the records are those of tree_scan.c. */
#ifndef VARVE_TREE_SCAN_H
#define VARVE_TREE_SCAN_H

#include <stdbool.h>

#include "wire.h"

#define FEW_RECORDS 512
#define FEW_BYTES (64 * 1024)

/*
 * Puts what scan-diff answers for `folder`. False, with nothing put, where that would be more than FEW_RECORDS records, or names, targets
 * and attributes of more than FEW_BYTES in all. To be called once in a process.
 */
bool tree_scan_few(struct wire_out *out, const char *folder, bool user_xattrs);

#endif
