#include "failure.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "wire.h"

static int stream = STDOUT_FILENO;

void failure_stream(int fd) { stream = fd; }

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
  _exit(FAILURE_STATUS);
}
