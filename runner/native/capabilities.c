#define _GNU_SOURCE
#include "capabilities.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "user_namespace.h"

#define BIT(capability) ((uint64_t)1 << (capability))

#define DOCKER_DEFAULTS                                                                                                \
  (BIT(CAP_CHOWN) | BIT(CAP_DAC_OVERRIDE) | BIT(CAP_FSETID) | BIT(CAP_FOWNER) | BIT(CAP_MKNOD) | BIT(CAP_NET_RAW) |    \
   BIT(CAP_SETGID) | BIT(CAP_SETUID) | BIT(CAP_SETFCAP) | BIT(CAP_SETPCAP) | BIT(CAP_NET_BIND_SERVICE) |               \
   BIT(CAP_SYS_CHROOT) | BIT(CAP_KILL) | BIT(CAP_AUDIT_WRITE))

/* The kernel answers EINVAL for the first number that it does not know. */
static int limit_bounding(uint64_t keep, uint64_t *kept) {
  *kept = 0;
  for (unsigned capability = 0; capability < 64; capability++) {
    int has = prctl(PR_CAPBSET_READ, capability, 0, 0, 0);
    if (has < 0) return errno == EINVAL ? 0 : -1;
    if (has == 0) continue;
    if (keep & BIT(capability)) *kept |= BIT(capability);
    else if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0) return -1;
  }
  return 0;
}

/* glibc has no wrapper; version 3 splits each set into two words (capget(2)). */
static int set_capabilities(uint64_t effective) {
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  struct __user_cap_data_struct held[2];
  if (syscall(SYS_capget, &header, held) < 0) return -1;
  struct __user_cap_data_struct data[2] = {0};
  for (unsigned word = 0; word < 2; word++) {
    data[word].permitted = (uint32_t)(effective >> (32 * word)) & held[word].permitted;
    data[word].effective = data[word].permitted;
  }
  header.version = _LINUX_CAPABILITY_VERSION_3;
  return (int)syscall(SYS_capset, &header, data);
}

int identity_assume(const struct identity *identity) {
  uint64_t kept;
  if (limit_bounding(identity->default_capabilities ? DOCKER_DEFAULTS : ~(uint64_t)0, &kept) < 0) return -1;
  if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0) return -1;
  /* Groups first: without CAP_SETGID they could not be changed any more. */
  /* Otherwise the caller's own groups stay, which it may use anyway. */
  if (may_set_groups() && setgroups(identity->group_count, identity->groups) < 0) return -1;
  if (setresgid(identity->gid, identity->gid, identity->gid) < 0) return -1;
  if (setresuid(identity->uid, identity->uid, identity->uid) < 0) return -1;
  return set_capabilities(identity->uid == 0 ? kept : 0);
}

static int keep_only(uint64_t capabilities) {
  uint64_t kept;
  if (limit_bounding(capabilities, &kept) < 0) return -1;
  if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0) return -1;
  return set_capabilities(capabilities);
}

int capabilities_keep_kill(void) { return keep_only(BIT(CAP_KILL)); }

int capabilities_keep_reading(void) {
  return keep_only(BIT(CAP_DAC_READ_SEARCH) | BIT(CAP_FOWNER) | BIT(CAP_SYS_PTRACE));
}
