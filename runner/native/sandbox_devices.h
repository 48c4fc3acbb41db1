/* Which device nodes may be opened, where cgroup v2 is in charge: a BPF program on the cgroup. */
#ifndef VARVE_SANDBOX_DEVICES_H
#define VARVE_SANDBOX_DEVICES_H

/*
 * Attaches Docker's device rules (making any node is allowed; opening only the usual pseudo devices and terminals) to the cgroup v2
 * folder that is open as `folder`. Ends the process with code `sandbox-setup` where the kernel refuses.
 */
void device_filter_attach(int folder);

#endif
