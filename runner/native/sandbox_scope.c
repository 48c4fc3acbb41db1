#define _GNU_SOURCE
#include "sandbox_scope.h"

#include <linux/landlock.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

/* landlock(7): version 6 of its interface has scopes; older headers lack them. */
#define VERSION_WITH_SCOPES 6
#define SCOPE_ABSTRACT_SOCKETS 1

struct ruleset {
  uint64_t handled_files, handled_ports, scoped;
};

int scope_abstract_sockets(void) {
  if (syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION) < VERSION_WITH_SCOPES) return 0;
  /* No word on files and ports: what nothing is said of stays as it is. */
  const struct ruleset wanted = {.scoped = SCOPE_ABSTRACT_SOCKETS};
  int ruleset = (int)syscall(SYS_landlock_create_ruleset, &wanted, sizeof wanted, 0);
  if (ruleset < 0) return -1;
  int result = (int)syscall(SYS_landlock_restrict_self, ruleset, 0);
  close(ruleset);
  return result;
}
