/*
 * A user namespace for the program alone. Everything before it is set up outside of the namespace, so that the program has power
 * over none of it.
 */
#ifndef VARVE_SANDBOX_USERNS_H
#define VARVE_SANDBOX_USERNS_H

#include "sandbox_spec.h"

/* The way on which init and the program's process wait for each other. */
struct userns_gate {
  int entered[2], mapped[2];
};

bool userns_wanted(const struct sandbox_spec *spec);
struct userns_gate userns_gate_make(void);
/* In the program's process: enters the namespace and waits until its ids mean something. */
void userns_enter(const struct userns_gate *gate);
/* In init, which must still have its capabilities: writes the maps of `program`, unless that ended before. */
void userns_map(const struct userns_gate *gate, const struct sandbox_spec *spec, pid_t program);

#endif
