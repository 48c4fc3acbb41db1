#define _GNU_SOURCE
#include "trace_ahead.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Files of one window, the names that are passed over for them, the largest file and the most bytes that are read ahead. */
#define WINDOW 192
#define MOST_NAMES (4 * WINDOW)
#define LARGEST_FILE ((uint64_t)256 * 1024)
#define MOST_BYTES ((uint64_t)4 * 1024 * 1024)

/* So many files before the end of a window one is left alone. */
#define LEAD 96

/* A folder of which so many files were read in the order of its listing is being walked through. */
#define ENOUGH_TO_TELL 8

/* A process that walked through so many folders walks through the tree. */
#define ENOUGH_FOLDERS 4

/* Folders of one window, the one among them that is left alone, and the names that are passed over for them. */
#define FOLDERS 32
#define LONE_FOLDER 20
#define MOST_PASSED 4096

static bool is_worth_it(const struct trace_node *node) {
  return node->type == TRACE_FILE && node->size > 0 && node->size <= LARGEST_FILE && (node->uses & USE_CONTENT) == 0;
}

/* What the walk comes to after `node`: what is in it, else what follows it. NULL at its end. */
static struct trace_node *after(struct trace_tree *tree, const struct trace_walk *walk, struct trace_node *node) {
  if (walk->lister != 0 && node->type == TRACE_FOLDER && node->child_count > 0) return trace_tree_list(tree, node)[0];
  for (; node->parent != NULL; node = node->parent) {
    struct trace_node **listing = trace_tree_list(tree, node->parent);
    if (walk->lister != 0 && node->parent->lister != walk->lister) return NULL;
    if (node->position + 1 < node->parent->child_count) return listing[node->position + 1];
    if (walk->lister == 0) return NULL;
  }
  return NULL;
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

static void add(struct trace_ahead *ahead, struct orders *orders, const struct trace_node *node) {
  static char buffer[PATH_MAX];
  const char *path = trace_node_path(node, buffer, sizeof buffer - 1);
  if (path == NULL || *path == '\0') return;
  size_t length = strlen(path), size = length + 1;
  bool is_folder = node->type == TRACE_FOLDER;
  if (size + is_folder > sizeof orders->paths) return;
  if (orders->length + size + is_folder > sizeof orders->paths) give(ahead, orders);
  char *at = orders->paths + orders->length;
  memcpy(at, path, length);
  if (is_folder) at[length++] = '/';
  at[length++] = '\0';
  orders->length += length;
}

struct window {
  struct trace_node *files[WINDOW];
  uint32_t count;
  struct trace_node *end; /* the first node after it; NULL where the walk ends */
};

/* The program is about to list it; if it finds the names there already, nobody hears of that. */
static void order_listing(struct trace_ahead *ahead, const struct trace_walk *walk, struct trace_node *folder) {
  static struct orders orders;
  if (folder->listed || folder->lister != 0) return;
  folder->lister = walk->lister;
  add(ahead, &orders, folder);
  give(ahead, &orders);
}

/* The files worth reading from where the walk goes on. Folders on the way are ordered at once. */
static void collect(struct window *window, struct trace_ahead *ahead, struct trace_tree *tree, const struct trace_walk *walk) {
  struct trace_node *node = walk->next;
  uint64_t bytes = 0;
  window->count = 0;
  for (uint32_t i = 0; node != NULL && i < MOST_NAMES && window->count < WINDOW; i++, node = after(tree, walk, node)) {
    if (walk->lister != 0 && node->type == TRACE_FOLDER) order_listing(ahead, walk, node);
    if (!is_worth_it(node) || node->ordered) continue;
    if ((bytes += node->size) > MOST_BYTES) break;
    window->files[window->count++] = node;
  }
  window->end = node;
}

static void go_on(struct trace_ahead *ahead, struct trace_tree *tree, struct trace_walk *walk) {
  static struct orders orders;
  static struct window window;
  collect(&window, ahead, tree, walk);
  walk->next = window.end;
  walk->probe = NULL;
  if (window.end != NULL && window.count > 0) walk->probe = window.files[window.count > LEAD ? window.count - LEAD : 0];
  for (uint32_t i = 0; i < window.count; i++) {
    window.files[i]->parent->passed++;
    if (window.files[i] == walk->probe) continue;
    window.files[i]->ordered = true;
    add(ahead, &orders, window.files[i]);
  }
  give(ahead, &orders);
}

/* Whether files before `node` in its folder were read, most of them. */
static bool is_walking(struct trace_ahead *ahead, struct trace_node *node) {
  struct trace_node *folder = node->parent;
  if (++folder->passed >= ENOUGH_TO_TELL) ahead->walks = true;
  return ahead->walks && folder->passed * 2 > node->position;
}

static struct trace_walk *walk_to(struct trace_ahead *ahead, const struct trace_node *node) {
  for (uint32_t i = 0; i < TRACE_WALKS; i++) {
    if (ahead->known[i].probe == node) return &ahead->known[i];
  }
  return NULL;
}

static struct trace_walk *new_walk(struct trace_ahead *ahead, uint32_t lister) {
  struct trace_walk *walk = &ahead->known[ahead->newest++ % TRACE_WALKS];
  *walk = (struct trace_walk){.lister = lister};
  return walk;
}

void trace_ahead_note(struct trace_ahead *ahead, struct trace_tree *tree, struct trace_node *node, struct trace_process *process) {
  struct trace_node *folder = node->parent;
  if (ahead->orders < 0 || (pid_t)process->pid == *ahead->reader || folder == NULL || !folder->listed || node->ordered) return;
  struct trace_walk *walk = walk_to(ahead, node);
  trace_tree_list(tree, folder);
  if (walk == NULL) {
    if (!is_walking(ahead, node)) return;
    bool listed_itself = folder->lister == process->pid;
    if (listed_itself) process->walked++;
    walk = new_walk(ahead, listed_itself && process->walked >= ENOUGH_FOLDERS ? process->pid : 0);
    walk->next = after(tree, walk, node);
  }
  go_on(ahead, tree, walk);
}

static struct trace_node *next_folder(struct trace_tree *tree, const struct trace_walk *walk, struct trace_node *node) {
  for (uint32_t i = 0; node != NULL && i < MOST_PASSED; i++) {
    node = after(tree, walk, node);
    if (node != NULL && node->type == TRACE_FOLDER) return node;
  }
  return NULL;
}

void trace_ahead_listed(struct trace_ahead *ahead, struct trace_tree *tree, struct trace_node *folder, struct trace_process *process) {
  if (ahead->orders < 0 || (pid_t)process->pid == *ahead->reader || process->pid == 0) return;
  struct trace_walk *walk = walk_to(ahead, folder);
  if (walk == NULL) {
    process->in_row = process->next_folder == folder ? process->in_row + 1 : 0;
    const struct trace_walk own = {.lister = process->pid};
    process->next_folder = next_folder(tree, &own, folder);
    if (process->in_row < ENOUGH_TO_TELL) return;
    process->in_row = 0;
    walk = new_walk(ahead, process->pid);
    walk->next = process->next_folder;
  }
  walk->probe = NULL;
  struct trace_node *node = walk->next;
  for (uint32_t i = 0; node != NULL && i < FOLDERS; i++, node = next_folder(tree, walk, node)) {
    if (i != LONE_FOLDER) {
      order_listing(ahead, walk, node);
    } else {
      walk->probe = node;
      if (node->lister == 0) node->lister = walk->lister;
    }
  }
  walk->next = node;
}

static void read_file(int mount, const char *path) {
  int fd = openat(mount, path, O_RDONLY | O_NOFOLLOW | O_NOATIME | O_CLOEXEC);
  if (fd < 0) return;
  readahead(fd, 0, LARGEST_FILE);
  close(fd);
}

/* The kernel keeps the names, and all that is told with them. */
static void list_folder(int mount, const char *path) {
  static char names[64 * 1024];
  int fd = openat(mount, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) return;
  while (syscall(SYS_getdents64, fd, names, sizeof names) > 0) continue;
  close(fd);
}

static void read_one(int mount, const char *path, size_t length) {
  if (path[length - 1] == '/') list_folder(mount, path);
  else read_file(mount, path);
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
      read_one(mount, buffer + start, (size_t)(end - buffer) - start);
    }
    memmove(buffer, buffer + start, length - start);
    length -= start;
  }
}
