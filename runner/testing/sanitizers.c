/* Compiled into the native program where it is built with sanitizers, which start it without an environment. */
const char *__asan_default_options(void);
const char *__ubsan_default_options(void);

/* What it has at its end is the kernel's to take back. A field that is too long for the memory is an error that it tells itself. */
const char *__asan_default_options(void) {
  return "detect_leaks=0:detect_stack_use_after_return=1:allocator_may_return_null=1";
}

const char *__ubsan_default_options(void) { return "print_stacktrace=1"; }
