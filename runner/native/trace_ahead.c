#define _GNU_SOURCE
#include "trace_ahead.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "trace_record.h"

/* Names of one window, and the largest file and the most bytes that are read ahead. */
#define WINDOW 96
#define LARGEST_FILE ((uint64_t)256 * 1024)
#define MOST_BYTES ((uint64_t)4 * 1024 * 1024)

/* So many names before the end of a window one file is left alone. */
#define LEAD 32

/* A folder of which so many files were read in the order of its listing is being walked through. */
#define ENOUGH_TO_TELL 8

static bool is_worth_it(const struct trace_node *node) {
  return node->type == TRACE_FILE && node->size > 0 && node->size <= LARGEST_FILE && (node->uses & USE_CONTENT) == 0;
}

struct orders {
  char paths[PIPE_BUF]; /* so many bytes are written as a whole or not at all (pipe(7)) */
  size_t length;
};

/* Orders that find no room are dropped: the program then reads these files itself. */
static void give(struct trace_ahead *ahead, struct orders *orders) {
  if (orders->length > 0 && write(ahead->orders, orders->paths, orders->length) < 0 && errno != EAGAIN) {
    close(ahead->orders);
    ahead->orders = -1;
  }
  orders->length = 0;
}

static void add(struct trace_ahead *ahead, struct orders *orders, const struct trace_node *file) {
  static char buffer[PATH_MAX];
  const char *path = trace_node_path(file, buffer, sizeof buffer);
  size_t size = path == NULL ? 0 : strlen(path) + 1;
  if (size == 0 || size > sizeof orders->paths) return;
  if (orders->length + size > sizeof orders->paths) give(ahead, orders);
  memcpy(orders->paths + orders->length, path, size);
  orders->length += size;
}

static void order_window(struct trace_ahead *ahead, struct trace_node *folder, uint32_t start) {
  static struct orders orders;
  uint32_t end = start + WINDOW < folder->child_count ? start + WINDOW : folder->child_count;
  uint64_t bytes = 0;
  bool probed = false;
  for (uint32_t i = start; i < end && ahead->orders >= 0; i++) {
    const struct trace_node *file = folder->listing[i];
    if (!is_worth_it(file) || (bytes += file->size) > MOST_BYTES) continue;
    folder->passed++;
    if (!probed && i + LEAD >= start + WINDOW) probed = true;
    else add(ahead, &orders, file);
  }
  folder->ahead = end;
  if (ahead->orders >= 0) give(ahead, &orders);
}

void trace_ahead_note(struct trace_ahead *ahead, struct trace_tree *tree, struct trace_node *node, uint32_t pid) {
  struct trace_node *folder = node->parent;
  if (ahead->orders < 0 || (pid_t)pid == ahead->reader || folder == NULL || !folder->listed) return;
  trace_tree_list(tree, folder);
  if (node->position >= folder->ahead) folder->passed++;
  if (folder->passed >= ENOUGH_TO_TELL) ahead->walks = true;
  if (!ahead->walks || folder->passed * 2 <= node->position || node->position + LEAD < folder->ahead) return;
  order_window(ahead, folder, node->position >= folder->ahead ? node->position + 1 : folder->ahead);
}

static void read_file(int mount, const char *path) {
  int fd = openat(mount, path, O_RDONLY | O_NOFOLLOW | O_NOATIME | O_CLOEXEC);
  if (fd < 0) return;
  readahead(fd, 0, LARGEST_FILE);
  close(fd);
}

void trace_ahead_read(int orders, int mount) {
  static char buffer[PIPE_BUF + PATH_MAX];
  size_t length = 0;
  for (;;) {
    ssize_t got = read(orders, buffer + length, sizeof buffer - length);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) _exit(0);
    length += (size_t)got;
    size_t start = 0;
    for (const char *end; (end = memchr(buffer + start, '\0', length - start)) != NULL; start = (size_t)(end - buffer) + 1) {
      read_file(mount, buffer + start);
    }
    memmove(buffer, buffer + start, length - start);
    length -= start;
  }
}
