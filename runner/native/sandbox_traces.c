#define _GNU_SOURCE
#include "sandbox_traces.h"

#include <sys/socket.h>
#include <unistd.h>

#include "wire.h"

struct traces traces_of(uint32_t mounts) {
  struct traces traces = {.count = mounts + 1};
  traces.all = wire_allocate(traces.count * sizeof *traces.all);
  for (uint32_t i = 0; i < traces.count; i++) traces.all[i] = trace_none();
  return traces;
}

void traces_close(const struct traces *traces) {
  for (uint32_t i = 0; i < traces->count; i++) trace_close(&traces->all[i]);
}

void traces_interest(const struct traces *traces, struct pollfd *polled) {
  for (uint32_t i = 0; i < traces->count; i++) polled[i] = (struct pollfd){.fd = traces->all[i].orders, .events = POLLIN};
}

void traces_start_readers(const struct traces *traces, const struct pollfd *polled) {
  for (uint32_t i = 0; i < traces->count; i++) {
    /* What came before may have closed it. */
    if (polled[i].revents != 0 && traces->all[i].orders >= 0) trace_start_reader(&traces->all[i]);
  }
}

bool traces_reap(const struct traces *traces) {
  bool ended = false;
  for (uint32_t i = 0; i < traces->count; i++) ended = trace_reap(&traces->all[i]) || ended;
  return ended;
}

void traces_stop(const struct traces *traces) {
  for (uint32_t i = 0; i < traces->count; i++) trace_stop(&traces->all[i]);
}

void traces_unblock(const struct traces *traces) {
  for (uint32_t i = 0; i < traces->count; i++) trace_unblock(&traces->all[i]);
}

static void name_mount(const char *target, int control) {
  struct wire_out out;
  wire_out_init(&out, control);
  wire_put_u8(&out, 'M');
  wire_put_text(&out, target);
  send(control, out.buffer, out.length, MSG_NOSIGNAL);
}

bool traces_tell(const struct traces *traces, const struct sandbox_spec *spec, int control, int signals) {
  for (uint32_t i = 0; i < traces->count; i++) {
    struct trace *trace = &traces->all[i];
    if (trace->report < 0 && trace->untraced[0] == '\0') continue;
    if (i > 0) name_mount(spec->mounts[i - 1].target, control);
    if (!trace_tell(trace, control, signals)) return false;
  }
  return true;
}
