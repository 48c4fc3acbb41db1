#define _GNU_SOURCE
#include "sandbox_relay.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

void relay_start(struct relay *relay, int from, int to) {
  relay->from = from;
  relay->to = to;
  relay->ended = false;
  relay->at = 0;
  relay->end = 0;
  fcntl(from, F_SETFL, fcntl(from, F_GETFL) | O_NONBLOCK);
  fcntl(to, F_SETFL, fcntl(to, F_GETFL) | O_NONBLOCK);
}

void relay_close(struct relay *relay) {
  if (relay->from >= 0) close(relay->from);
  if (relay->to >= 0 && relay->to != relay->from) close(relay->to);
  relay->from = -1;
  relay->to = -1;
}

struct pollfd relay_interest(const struct relay *relay) {
  if (relay->to < 0) return (struct pollfd){.fd = -1};
  if (relay->at < relay->end) return (struct pollfd){.fd = relay->to, .events = POLLOUT};
  return (struct pollfd){.fd = relay->from, .events = POLLIN};
}

static bool would_block(void) { return errno == EAGAIN || errno == EINTR; }

/* False when nothing can be done now. */
static bool step(struct relay *relay) {
  if (relay->at < relay->end) {
    ssize_t put = write(relay->to, relay->buffer + relay->at, relay->end - relay->at);
    if (put < 0 && would_block()) return false;
    if (put < 0) {
      relay_close(relay);
      return false;
    }
    relay->at += (size_t)put;
    return true;
  }
  if (relay->ended) {
    relay_close(relay);
    return false;
  }
  ssize_t got = read(relay->from, relay->buffer, sizeof relay->buffer);
  if (got < 0 && would_block()) return false;
  /* EIO: the other side of a terminal has been closed (pty(7)); as good an end as 0. */
  if (got <= 0) {
    relay->ended = true;
    return true;
  }
  relay->at = 0;
  relay->end = (size_t)got;
  return true;
}

void relay_move(struct relay *relay) {
  /* Bounded, so that one busy stream does not keep orders and the other streams waiting. */
  for (int i = 0; i < 16 && relay->to >= 0; i++) {
    if (!step(relay)) return;
  }
}

bool relay_drain(struct relay *relay) {
  while (relay->to >= 0 && step(relay)) continue;
  return relay->to < 0 || relay->at == relay->end;
}
