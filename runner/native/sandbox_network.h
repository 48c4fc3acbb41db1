/* A program outside of the sandbox that gives its network namespace a way out (pasta, slirp4netns). */
#ifndef VARVE_SANDBOX_NETWORK_H
#define VARVE_SANDBOX_NETWORK_H

#include <sys/types.h>

/*
 * Starts the program of `arguments` for the network namespace of `init`, which it has as its standard input, and waits until it writes
 * something to its standard output: the network is then there. Fails with code `network-failed` where it does not. It dies with
 * this process. Returns its process, or 0 where `init` has gone before.
 */
pid_t network_start(char **arguments, pid_t init);

/* Ends the program, if there is one. */
void network_end(pid_t helper);

#endif
