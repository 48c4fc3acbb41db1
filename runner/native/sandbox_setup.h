/* Carries out a plan. */
#ifndef VARVE_SANDBOX_SETUP_H
#define VARVE_SANDBOX_SETUP_H

#include "sandbox_plan.h"

/* What the set-up leaves for the process that starts the program. */
struct terminal {
  int master, slave; /* -1 without a terminal */
};

/*
 * Does every operation in order, in the calling process, which has its own namespaces and becomes the init of the sandbox. Ends
 * the process through fail(), code `sandbox-setup`, at the first that does not succeed.
 */
struct terminal setup_sandbox(const struct plan *plan);

#endif
