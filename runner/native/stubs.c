/* Stand-ins for commands that are not linked in; each is replaced by the real function of the same name. */
#include <stdio.h>

#include "commands.h"

static int absent(const char *name) {
  fprintf(stderr, "varve-native: built without %s\n", name);
  return 2;
}

#define STAND_IN(name)                                            \
  __attribute__((weak)) int name(int argc, char **argv) {         \
    (void)argc;                                                   \
    return absent(argv[0]);                                       \
  }

STAND_IN(sandbox_main)
STAND_IN(tree_apply_main)
STAND_IN(tree_scan_diff_main)
STAND_IN(tree_scan_plain_main)
STAND_IN(tree_remove_main)
