#include "failure.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "wire.h"

static int stream = STDOUT_FILENO;

void failure_stream(int fd) { stream = fd; }

/*
 * Where orders come by the stream that failures go to: reads them to their end. Who sends meanwhile would otherwise meet a closed stream,
 * and not get to read what went wrong.
 */
static void drain_orders(void) {
  struct stat orders, failures;
  char bytes[65536];
  if (fstat(STDIN_FILENO, &orders) < 0 || fstat(stream, &failures) < 0) return;
  if (!S_ISSOCK(orders.st_mode) || orders.st_dev != failures.st_dev || orders.st_ino != failures.st_ino) return;
  while (read(STDIN_FILENO, bytes, sizeof bytes) > 0) {
  }
}

void fail(int error, const char *code, const char *path, const char *format, ...) {
  char message[1024];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(message, sizeof message, format, arguments);
  va_end(arguments);

  struct wire_out out;
  wire_out_init(&out, stream);
  wire_put_u8(&out, 'F');
  wire_put_u32(&out, (uint32_t)error);
  wire_put_text(&out, code);
  wire_put_text(&out, path == NULL ? "" : path);
  wire_put_text(&out, message);
  wire_flush(&out);
  drain_orders();
  _exit(FAILURE_STATUS);
}
