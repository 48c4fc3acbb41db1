/* Docker's default capabilities, and the change from our identity to the user's. */
#ifndef VARVE_CAPABILITIES_H
#define VARVE_CAPABILITIES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct identity {
  uid_t uid;
  gid_t gid;
  gid_t *groups;
  size_t group_count;
  /* Docker's 14 capabilities (moby oci/defaults.go) rather than all. */
  bool default_capabilities;
};

/*
 * Becomes `identity`, for good: bounding set, groups, ids, then the sets. Inheritable and ambient are empty (CVE-2022-24769); permitted and
 * effective are the bounding set for uid 0 and empty for others, as execve would leave them. Returns 0, or -1 with errno.
 */
int identity_assume(const struct identity *identity);

/* Gives up every capability but CAP_KILL, also in the bounding set. Returns 0, or -1 with errno. */
int capabilities_keep_kill(void);

/*
 * Gives up all but what it takes to read every file, without moving its time (open(2), O_NOATIME), and to see in /proc what other
 * processes are and do. Returns 0, or -1 with errno.
 */
int capabilities_keep_reading(void);

#endif
