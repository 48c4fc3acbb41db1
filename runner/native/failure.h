/*
 * One way to report a failure: a record on the result stream, then the end of the process.
 *
 * The record: u8 'F', u32 errno (0 where the kernel is not to blame), then three texts (see wire.h): code, path, message.
 */
#ifndef VARVE_FAILURE_H
#define VARVE_FAILURE_H

/* Exit status of a process that reported its failure. */
#define FAILURE_STATUS 1

/* The descriptor that failures are written to; standard output until told otherwise. */
void failure_stream(int fd);

/*
 * Writes the record and ends the process with FAILURE_STATUS (by _exit: no buffers of a parent are flushed twice).
 * `code` is stable and kebab-case, `path` may be NULL; `error` is an errno value or 0.
 */
_Noreturn void fail(int error, const char *code, const char *path, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

#endif
