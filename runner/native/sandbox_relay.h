/* Bytes from one descriptor to another, without loss and without ever blocking. */
#ifndef VARVE_SANDBOX_RELAY_H
#define VARVE_SANDBOX_RELAY_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>

#define RELAY_BUFFER ((size_t)64 * 1024)

/*
 * Reads only when the last bytes have gone out: a slow reader makes the writer wait, as a pipe would. Closes both ends when
 * the source has ended and all is written, or when nobody reads any more.
 */
struct relay {
  int from, to; /* -1 when closed */
  bool ended;   /* nothing more comes from `from` */
  size_t at, end;
  unsigned char buffer[RELAY_BUFFER];
};

/* Both descriptors become non-blocking and belong to the relay. `to` may be a pipe, a socket or a terminal. */
void relay_start(struct relay *relay, int from, int to);

/* What to wait for; an fd of -1 where the relay is done. */
struct pollfd relay_interest(const struct relay *relay);

/* Moves what can be moved. */
void relay_move(struct relay *relay);

/* The writers are dead: what is in `from` now is all that there will be. True when all of it has been written. */
bool relay_drain(struct relay *relay);

void relay_close(struct relay *relay);

#endif
