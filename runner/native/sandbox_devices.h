/* Which device nodes may be opened, where cgroup v2 is in charge: a BPF program on the cgroup. */
#ifndef VARVE_SANDBOX_DEVICES_H
#define VARVE_SANDBOX_DEVICES_H

#include <stdbool.h>
#include <stdint.h>

#include "sandbox_spec.h"

/* So many devices beside the usual ones may be opened; those after them may not. */
#define MOST_DEVICES 64

/*
 * Attaches Docker's device rules (making any node is allowed; opening only the usual pseudo devices and terminals) to the cgroup v2
 * folder that is open as `folder`. False, with errno, where the kernel does not take it.
 */
bool device_filter_attach(int folder, const struct device_rule *further, uint32_t count);

#endif
