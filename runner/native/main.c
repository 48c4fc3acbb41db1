/* varve-native: what Node has no calls for, one process per task. The first argument names the command. */
#include <stdio.h>
#include <string.h>

#include "commands.h"

struct command {
  const char *name;
  int (*run)(int argc, char **argv);
};

static const struct command COMMANDS[] = {
    {"sandbox", sandbox_main},           {"apply", tree_apply_main},   {"scan-diff", tree_scan_diff_main},
    {"scan-tree", tree_scan_plain_main}, {"remove", tree_remove_main},
    {"look", folder_look_main},          {"hash-tar", tar_hash_main},  {"serve", serve_main},
    {"as-root", as_root_main},           {"unchanged", unchanged_main},
};

int main(int argc, char **argv) {
  if (argc >= 2) {
    for (size_t i = 0; i < sizeof COMMANDS / sizeof COMMANDS[0]; i++) {
      if (strcmp(argv[1], COMMANDS[i].name) == 0) return COMMANDS[i].run(argc - 1, argv + 1);
    }
  }
  fputs("varve-native: started by varve, not by hand\n", stderr);
  return 2;
}
