/*
 * The commands of varve-native. Each reads its orders from a file descriptor, never from the environment, and returns
 * the exit status of the process: 0 on success; failures end the process through fail() of failure.h.
 */
#ifndef VARVE_COMMANDS_H
#define VARVE_COMMANDS_H

/* Starts one sandboxed process; see sandbox.c. */
int sandbox_main(int argc, char **argv);

/* Orders on stdin: a root mount, then tree operations until the end of the stream. Result on stdout. */
int tree_apply_main(int argc, char **argv);

/* Order on stdin: a host path, u8 userxattrs. Lists the folder, in OverlayFS form, as changes on stdout. */
int tree_scan_diff_main(int argc, char **argv);

/* Orders as for scan-diff. Lists the plain folder as entries on stdout, staying on its file system. */
int tree_scan_plain_main(int argc, char **argv);

/* Orders on stdin: host paths until the end of the stream. Removes each with all below it. */
int tree_remove_main(int argc, char **argv);

/* Orders on stdin, answers on stdout: lists folders and reads files; see folder_look.c. */
int folder_look_main(int argc, char **argv);

/* Orders on stdin: bytes and files of a folder. Their SHA-256 on stdout; see tar_hash.c. */
int tar_hash_main(int argc, char **argv);

/* Runs the program that its arguments name, as root of a user namespace where the caller is not root and can have one. */
int as_root_main(int argc, char **argv);

/* Ends a build in which nothing changed, else runs the program that its arguments name; see unchanged.c. */
int unchanged_main(int argc, char **argv);

/* Forks a process for each task that its parent asks for; see serve.c. */
int serve_main(int argc, char **argv);

#endif
