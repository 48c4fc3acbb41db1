/* Which sockets of the machine a sandbox's program reaches where it has the machine's network. */
#ifndef VARVE_SANDBOX_SCOPE_H
#define VARVE_SANDBOX_SCOPE_H

/*
 * From here on this process and its children connect to abstract UNIX sockets of each other only, not to those of the machine, whose
 * owners take who connects for what its user id says. Needs CAP_SYS_ADMIN or no_new_privs. Kernels before Linux 6.12, and those
 * without Landlock, cannot do it; nothing happens there. 0, or -1 with errno.
 */
int scope_abstract_sockets(void);

#endif
