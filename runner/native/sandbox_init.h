/* Process 1 of a sandbox. */
#ifndef VARVE_SANDBOX_INIT_H
#define VARVE_SANDBOX_INIT_H

#include "sandbox_plan.h"
#include "sandbox_program.h"

/*
 * Runs in the child that has the new namespaces: sets up the sandbox, starts the program, reaps orphans and passes signals on until
 * the program ends; the kernel then kills whatever is left. All signals must be blocked.
 *
 * Reports on `status`, a stream socket: 'T' with the terminal's master side as passed descriptor (terminals only);
 * 'R' once the program runs; then 'A' where no process but this one is left, and 'E', u32 wait status; or, instead of all that, 'F' or 'N'
 * (sandbox_program.h).
 */
_Noreturn void sandbox_init(const struct sandbox_spec *spec, const struct plan *plan, struct standard_io io, int status);

#endif
