#define _GNU_SOURCE
#include "sandbox_userns.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "failure.h"
#include "proc_file.h"

#define CODE "sandbox-setup"

bool userns_wanted(const struct sandbox_spec *spec) {
  return spec->uid_map[0] != '\0';
}

struct userns_gate userns_gate_make(void) {
  struct userns_gate gate;
  if (pipe2(gate.entered, O_CLOEXEC) < 0 || pipe2(gate.mapped, O_CLOEXEC) < 0) fail(errno, CODE, NULL, "cannot make a pipe");
  return gate;
}

/* The other side's death closes its end: waiting then ends with false. */
static bool await(int fd) {
  char byte;
  ssize_t got;
  do got = read(fd, &byte, 1);
  while (got < 0 && errno == EINTR);
  return got == 1;
}

static void tell(int fd) {
  if (write(fd, "", 1) != 1) fail(errno, CODE, NULL, "cannot write to a pipe");
}

void userns_enter(const struct userns_gate *gate) {
  close(gate->entered[0]);
  close(gate->mapped[1]);
  if (unshare(CLONE_NEWUSER) < 0) fail(errno, CODE, NULL, "cannot make a user namespace");
  tell(gate->entered[1]);
  if (!await(gate->mapped[0])) fail(0, CODE, NULL, "the maps of the user namespace were not written");
}

static void write_map(pid_t program, const char *name, const char *map) {
  char path[64];
  snprintf(path, sizeof path, "%d/%s", (int)program, name);
  int file = proc_open(path);
  size_t size = strlen(map);
  /* The kernel takes a map with one write. */
  if (file < 0 || write(file, map, size) != (ssize_t)size) fail(errno, CODE, path, "cannot map the ids of the user namespace");
  close(file);
}

void userns_map(const struct userns_gate *gate, const struct sandbox_spec *spec, pid_t program) {
  close(gate->entered[1]);
  close(gate->mapped[0]);
  if (!await(gate->entered[0])) return;
  write_map(program, "uid_map", spec->uid_map);
  write_map(program, "gid_map", spec->gid_map);
  tell(gate->mapped[1]);
}
