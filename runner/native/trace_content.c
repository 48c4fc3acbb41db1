#define _GNU_SOURCE
#include "trace_content.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "wire.h"

/* The files of a data folder. */
static bool open_files(const char *folder, int *files) {
  int home = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (home < 0) return false;
  *files = openat(home, "fs", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  close(home);
  return *files >= 0;
}

bool trace_content_init(struct trace_content *content, char *const *diffs, uint32_t count) {
  memset(content, 0, sizeof *content);
  content->folders = wire_allocate((size_t)count * 2 * sizeof *content->folders);
  for (uint32_t i = 0; i < count; i++) {
    char *original = manifest_original(diffs[i]);
    bool opened = open_files(diffs[i], &content->folders[trace_folder(i, count, false)]) &&
                  (original == NULL || open_files(original, &content->folders[trace_folder(i, count, true)]));
    free(original);
    if (!opened) return false;
  }
  return true;
}

/* Symlinks are the image's: none is followed, wherever it lies. */
static int open_below(int folder, const char *path, uint64_t flags) {
  struct open_how how = {.flags = flags | O_CLOEXEC | O_NOFOLLOW,
                         .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS};
  return (int)syscall(SYS_openat2, folder, path, &how, sizeof how);
}

/* The folder that a file of the node's diff lies in; the last one is kept open, since files are mostly read folder by folder. */
static int folder_of(struct trace_content *content, const struct trace_node *node) {
  if (node->parent->parent == NULL) return content->folders[node->diff];
  if (content->last == node->parent && content->last_diff == node->diff) return content->last_fd;
  static char buffer[PATH_MAX];
  const char *path = trace_node_path(node->parent, buffer, sizeof buffer);
  if (path == NULL) {
    errno = ENAMETOOLONG;
    return -1;
  }
  int fd = open_below(content->folders[node->diff], path, O_PATH | O_DIRECTORY);
  if (fd < 0) return -1;
  if (content->last != NULL) close(content->last_fd);
  content->last = node->parent;
  content->last_diff = node->diff;
  content->last_fd = fd;
  return fd;
}

static int open_node(struct trace_content *content, const struct trace_node *node) {
  int folder = folder_of(content, node);
  if (folder < 0) return -1;
  char name[NAME_MAX + 1];
  memcpy(name, node->name, node->name_length);
  name[node->name_length] = '\0';
  return open_below(folder, name, O_RDONLY | O_NOATIME);
}

/* The descriptor of the node's file: open already, or in the place of the one that was not read for longest. */
static int descriptor_of(struct trace_content *content, struct trace_node *node) {
  if (node->slot == 0) {
    size_t oldest = 0;
    for (size_t i = 1; i < OPEN_CONTENTS && content->slots[oldest].node != NULL; i++) {
      if (content->slots[i].used < content->slots[oldest].used) oldest = i;
    }
    /* First, so that a process or a machine with few descriptors left can go on. */
    if (content->slots[oldest].node != NULL) {
      content->slots[oldest].node->slot = 0;
      content->slots[oldest].node = NULL;
      close(content->slots[oldest].fd);
    }
    int fd = open_node(content, node);
    if (fd < 0) return -1;
    content->slots[oldest].node = node;
    content->slots[oldest].fd = fd;
    node->slot = (int16_t)(oldest + 1);
  }
  content->slots[node->slot - 1].used = ++content->clock;
  return content->slots[node->slot - 1].fd;
}

ssize_t trace_content_read(struct trace_content *content, struct trace_node *node, void *buffer, size_t size, off_t offset) {
  /* The kernel asks for whole pages; what lies behind the end need not be tried. */
  if ((uint64_t)offset >= node->size) return 0;
  if (size > node->size - (uint64_t)offset) size = (size_t)(node->size - (uint64_t)offset);
  int fd = descriptor_of(content, node);
  if (fd < 0) return -1;
  size_t done = 0;
  while (done < size) {
    ssize_t got = pread(fd, (char *)buffer + done, size - done, offset + (off_t)done);
    if (got == 0) {
      errno = EIO;
      return -1;
    }
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return -1;
    done += (size_t)got;
  }
  return (ssize_t)done;
}
