/* Docker's default seccomp policy as a BPF filter. */
#ifndef VARVE_SECCOMP_H
#define VARVE_SECCOMP_H

/*
 * Binds the policy to the calling process and all that it starts. Without no_new_privs this needs CAP_SYS_ADMIN, and all
 * that runs afterwards is bound: identity, capabilities and execve remain allowed. Returns 0, or -1 with errno.
 */
int seccomp_install(void);

#endif
