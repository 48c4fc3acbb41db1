/*
 * libFuzzer's side of the native program: bytes in, and no report of a sanitizer out. FUZZ_TARGET says what reads them:
 *
 *   spec   the spec of a sandbox, and the plan that is made of it
 *   tree   the operations of `apply`, carried out below an empty folder
 *   note   the facts of a note, and the output that follows them
 *   files  u8 whether the tree is mounted alone, u16 length, the body of a manifest of that length, then questions to the file server:
 *          u8 which kind, u8 which of the nodes that it told of, u8 length, and as many bytes
 *
 * The program is built from its own sources, with some calls renamed (scripts/fuzz.ts): the end of a process is the end of a try,
 * memory is given back then, and orders come from memory. FUZZ_HOME is a folder to change the root to: nothing else can be changed.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/fuse.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "../native/commands.h"
#include "../native/crc32.h"
#include "../native/sandbox_plan.h"
#include "../native/trace_server.h"
#include "../native/unchanged_note.h"
#include "../native/unchanged_output.h"

#define MOST_MEMORY ((size_t)4 * 1024 * 1024)
#define INPUT STDIN_FILENO
#define FUSE (-77)

static jmp_buf end_of_try;

/* The end of a process. */

_Noreturn void fuzz_exit(int status) {
  (void)status;
  longjmp(end_of_try, 1);
}

void failure_stream(int fd) { (void)fd; }

_Noreturn void fail(int error, const char *code, const char *path, const char *format, ...) {
  /* Long enough for any message: arguments that are no texts would be noticed. */
  static char message[128 * 1024];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(message, sizeof message, format, arguments);
  va_end(arguments);
  (void)error;
  if (code == NULL || (path != NULL && strlen(path) > MOST_MEMORY)) abort();
  longjmp(end_of_try, 1);
}

/* Memory. */

static void **blocks;
static size_t block_count, block_capacity;
static struct {
  void *start;
  size_t size;
} maps[64];
static size_t map_count;

static void *keep(void *block) {
  if (block == NULL) return NULL;
  if (block_count == block_capacity) {
    block_capacity = block_capacity == 0 ? 1024 : block_capacity * 2;
    blocks = realloc(blocks, block_capacity * sizeof *blocks);
  }
  return blocks[block_count++] = block;
}

static void forget(const void *block) {
  for (size_t i = block_count; i > 0; i--) {
    if (blocks[i - 1] != block) continue;
    blocks[i - 1] = blocks[--block_count];
    return;
  }
  abort(); /* given back twice, or never taken */
}

void *fuzz_calloc(size_t count, size_t size) {
  size_t whole;
  if (__builtin_mul_overflow(count, size, &whole) || whole > MOST_MEMORY) return NULL;
  return keep(calloc(count, size));
}
void fuzz_free(void *block) {
  if (block == NULL) return;
  forget(block);
  free(block);
}
void *fuzz_realloc(void *block, size_t size) {
  if (size > MOST_MEMORY) return NULL;
  if (block != NULL) forget(block);
  return keep(realloc(block, size));
}
char *fuzz_strdup(const char *text) { return keep(strdup(text)); }
char *fuzz_strndup(const char *text, size_t size) { return keep(strndup(text, size)); }
int fuzz_asprintf(char **text, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  int length = vasprintf(text, format, arguments);
  va_end(arguments);
  if (length >= 0) keep(*text);
  return length;
}
void *fuzz_mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset) {
  void *start = mmap(address, size, protection, flags, fd, offset);
  if (start == MAP_FAILED) return start;
  if (map_count == sizeof maps / sizeof maps[0]) abort();
  maps[map_count].start = start;
  maps[map_count++].size = size;
  return start;
}

static void give_back(void) {
  while (block_count > 0) free(blocks[--block_count]);
  while (map_count > 0) {
    map_count--;
    munmap(maps[map_count].start, maps[map_count].size);
  }
}

/* Orders, answers, and the kernel's side of /dev/fuse. */

static const uint8_t *input, *input_end;
static const uint8_t *prefix;
static size_t prefix_left;

#define MOST_NODES 256
static struct trace_node *nodes[MOST_NODES];
static size_t node_count;
static uint32_t asked; /* the kind of the last question */

static size_t take(void *to, size_t size) {
  size_t left = (size_t)(input_end - input);
  if (size > left) size = left;
  memcpy(to, input, size);
  input += size;
  return size;
}

static uint8_t take_byte(void) {
  uint8_t byte = 0;
  take(&byte, 1);
  return byte;
}

static const uint32_t QUESTIONS[] = {FUSE_LOOKUP,  FUSE_GETATTR,   FUSE_READ,    FUSE_READLINK, FUSE_READDIR, FUSE_READDIRPLUS,
                                     FUSE_GETXATTR, FUSE_LISTXATTR, FUSE_STATFS, FUSE_FORGET,   FUSE_WRITE,   FUSE_IOCTL};

/* What the kernel would ask of no other type of node. */
static bool may_ask(uint32_t question, const struct trace_node *node) {
  switch (question) {
    case FUSE_LOOKUP:
    case FUSE_READDIR:
    case FUSE_READDIRPLUS: return node->type == TRACE_FOLDER;
    case FUSE_READ: return node->type == TRACE_FILE;
    case FUSE_READLINK: return node->type == TRACE_SYMLINK;
    default: return true;
  }
}

static ssize_t first_question(void *buffer) {
  struct fuse_in_header header = {.len = sizeof header + sizeof(struct fuse_init_in), .opcode = FUSE_INIT};
  struct fuse_init_in body = {.major = FUSE_KERNEL_VERSION, .flags = FUSE_NO_OPEN_SUPPORT | FUSE_NO_OPENDIR_SUPPORT};
  asked = FUSE_INIT;
  memcpy(buffer, &header, sizeof header);
  memcpy((char *)buffer + sizeof header, &body, sizeof body);
  return (ssize_t)(sizeof header + sizeof body);
}

static bool begun;

static ssize_t next_question(void *buffer) {
  if (!begun) {
    begun = true;
    return first_question(buffer);
  }
  while (input < input_end) {
    struct fuse_in_header header = {.opcode = QUESTIONS[take_byte() % (sizeof QUESTIONS / sizeof QUESTIONS[0])], .pid = 1};
    struct trace_node *node = nodes[take_byte() % node_count];
    uint8_t body[sizeof(struct fuse_read_in) + UINT8_MAX + 1] = {0};
    size_t length = take(body, take_byte());
    if (!may_ask(header.opcode, node)) continue;
    /* The kernel's bodies have their full size, and names in them an end. */
    if (length < sizeof(struct fuse_read_in)) length = sizeof(struct fuse_read_in);
    body[length++] = 0;
    if (header.opcode == FUSE_LOOKUP && (body[0] == 0 || memchr(body, '/', strlen((char *)body)) != NULL)) continue;
    header.nodeid = (uint64_t)(uintptr_t)node;
    asked = header.opcode;
    memcpy(buffer, &header, sizeof header);
    memcpy((char *)buffer + sizeof header, body, length);
    return (ssize_t)(sizeof header + length);
  }
  errno = ENODEV;
  return -1;
}

ssize_t fuzz_read(int fd, void *buffer, size_t size) {
  if (fd == FUSE) return next_question(buffer);
  if (fd != INPUT) return read(fd, buffer, size);
  if (prefix_left == 0) return (ssize_t)take(buffer, size);
  size_t part = prefix_left < size ? prefix_left : size;
  memcpy(buffer, prefix, part);
  prefix += part;
  prefix_left -= part;
  return (ssize_t)part;
}

ssize_t fuzz_write(int fd, const void *bytes, size_t size) { return fd == STDOUT_FILENO || fd == STDERR_FILENO ? (ssize_t)size : write(fd, bytes, size); }

ssize_t fuzz_writev(int fd, const struct iovec *parts, int count) {
  static uint8_t answer[2 * 1024 * 1024];
  size_t length = 0;
  (void)fd;
  for (int i = 0; i < count; i++) {
    if (parts[i].iov_len > sizeof answer - length) abort();
    if (parts[i].iov_len > 0) memcpy(answer + length, parts[i].iov_base, parts[i].iov_len);
    length += parts[i].iov_len;
  }
  const struct fuse_out_header *header = (const struct fuse_out_header *)answer;
  if (header->len != length) abort();
  const struct fuse_entry_out *entry = (const struct fuse_entry_out *)(answer + sizeof *header);
  if (asked == FUSE_LOOKUP && header->error == 0 && entry->nodeid != 0 && node_count < MOST_NODES) {
    nodes[node_count++] = (struct trace_node *)(uintptr_t)entry->nodeid;
  }
  return (ssize_t)length;
}

/* Targets. */

static void try_spec(void) {
  struct wire_in in;
  wire_in_init(&in, INPUT);
  struct sandbox_spec spec = sandbox_spec_read(&in);
  struct opened opened = {.root = -1, .sys = -1};
  for (size_t i = 0; i < SANDBOX_DEVICES; i++) opened.devices[i] = -1;
  opened.mounts = fuzz_calloc(spec.mount_count + 1, sizeof *opened.mounts);
  if (opened.mounts != NULL) plan_sandbox(&spec, &opened);
}

static void empty(int folder) {
  DIR *stream = fdopendir(folder);
  if (stream == NULL) abort();
  for (struct dirent *entry; (entry = readdir(stream)) != NULL;) {
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
    if (unlinkat(folder, entry->d_name, 0) == 0) continue;
    int below = openat(folder, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    if (below >= 0) empty(below);
    unlinkat(folder, entry->d_name, AT_REMOVEDIR);
  }
  closedir(stream);
}

static void try_tree(void) {
  /* A root mount: the folder /w, writable. */
  static const uint8_t ROOT[] = {'D', 2, 0, 0, 0, '/', 'w', 0};
  prefix = ROOT;
  prefix_left = sizeof ROOT;
  empty(open("/w", O_RDONLY | O_DIRECTORY));
  char *arguments[] = {"varve-native", NULL};
  tree_apply_main(1, arguments);
}

static void write_manifest(void) {
  static uint8_t file[8 + UINT16_MAX + 4] = "varvdiff";
  uint8_t length[2] = {take_byte(), take_byte()};
  size_t size = 8 + take(file + 8, (size_t)(length[0] | length[1] << 8));
  uint32_t crc = crc32_of(file, size);
  memcpy(file + size, &crc, sizeof crc);
  int fd = open("/d/manifest", O_WRONLY | O_CREAT | O_TRUNC, 0600);
  if (fd < 0 || write(fd, file, size + sizeof crc) < 0) abort();
  close(fd);
}

static void try_files(void) {
  char *diffs[] = {"/d", NULL};
  struct trace_server *server = fuzz_calloc(1, sizeof *server);
  const volatile int stop = 0;
  server->tree.alone = (take_byte() & 1) != 0;
  write_manifest();
  server->fuse = FUSE;
  server->prefix = "trusted.overlay.";
  static const volatile pid_t nobody;
  server->ahead = (struct trace_ahead){.orders = -1, .reader = &nobody};
  trace_record_init(&server->record);
  if (trace_tree_build(&server->tree, diffs, 1) != NULL || !trace_content_init(&server->content, diffs, 1)) return;
  begun = false;
  node_count = 1;
  nodes[0] = server->tree.root;
  trace_serve(server, &stop);
  int report = memfd_create("report", 0);
  trace_record_write(&server->record, report);
}

/* The store's folder is /d; the file in it can be told of, and one thing of the machine: its root. */
static void try_note(void) {
  struct note_bytes facts = {input, input_end, false};
  struct timespec began = {0};
  int root = open("/d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (root < 0) abort();
  if (facts_hold(&facts, root)) write_output(&facts, &began);
  close(root);
}

static void (*target)(void);
static unsigned first_descriptor;

/* What a try could change is below the new root, and no device. */
static void shut_in(void) {
  const char *home = getenv("FUZZ_HOME");
  if (home == NULL || chroot(home) < 0 || chdir("/") < 0) exit(2);
  mkdir("/w", 0700);
  mkdir("/d", 0700);
  mkdir("/d/fs", 0700);
  int content = open("/d/fs/a", O_WRONLY | O_CREAT, 0600);
  if (write(content, "content", 7) != 7) exit(2);
  close(content);
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
  struct __user_cap_data_struct data[2];
  if (syscall(SYS_capget, &header, data) < 0) exit(2);
  const uint32_t away = 1U << CAP_MKNOD | 1U << CAP_SYS_ADMIN | 1U << CAP_SYS_BOOT | 1U << CAP_SYS_RAWIO | 1U << CAP_KILL;
  data[0].permitted &= ~away;
  data[0].effective &= ~away;
  if (syscall(SYS_capset, &header, data) < 0) exit(2);
  first_descriptor = (unsigned)dup(2);
  close((int)first_descriptor);
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
  (void)argc;
  (void)argv;
  const char *name = getenv("FUZZ_TARGET");
  if (name == NULL) exit(2);
  if (strcmp(name, "spec") == 0) target = try_spec;
  else if (strcmp(name, "tree") == 0) target = try_tree;
  else if (strcmp(name, "files") == 0) target = try_files;
  else if (strcmp(name, "note") == 0) target = try_note;
  else exit(2);
  return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  /* Late: libFuzzer reads its corpus before. */
  if (first_descriptor == 0) shut_in();
  input = data;
  input_end = data + size;
  prefix_left = 0;
  if (setjmp(end_of_try) == 0) target();
  give_back();
  syscall(SYS_close_range, first_descriptor, ~0U, 0);
  return 0;
}
