/* The last steps on the way to the user's program. */
#ifndef VARVE_SANDBOX_PROGRAM_H
#define VARVE_SANDBOX_PROGRAM_H

#include "sandbox_spec.h"

/* Descriptors that become 0, 1 and 2; -1 leaves what is there. `terminal`: they are one and become the controlling terminal. */
struct standard_io {
  int in, out, err;
  bool terminal;
};

/*
 * Runs in a fresh child of the sandbox's init and becomes the program, or ends the process with a record on the failure
 * stream: 'F' (failure.h), or 'N', u32 126 or 127, text message, where the program cannot be started (the numbers of POSIX,
 * Shell & Utilities 2.8.2; the words of Docker).
 */
_Noreturn void become_program(const struct sandbox_spec *spec, const struct standard_io *io, int failure_stream);

#endif
