#define _GNU_SOURCE
#include "tree_remove.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "commands.h"
#include "tree_path.h"
#include "wire.h"

/*
 * Folders deeper than this are moved up to the top before they are emptied, so that a tree of any depth needs few
 * descriptors. Where they cannot be moved (a merged folder of an overlay), the recursion goes on.
 */
#define DEEPEST 200

struct removal {
  int top;
  unsigned long moved;
};

static int empty_folder(struct removal *removal, int folder, int depth);

static int open_to_empty(int folder, const char *name) {
  int fd = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd >= 0 || errno != EACCES) return fd;
  if (fchmodat(folder, name, 0700, 0) < 0) return -1;
  return openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* Gives the folder a fresh name at the top, where the loop over the top's entries will meet it. */
static bool move_up(struct removal *removal, int folder, const char *name) {
  char fresh[64];
  for (int tries = 0; tries < 100; tries++) {
    snprintf(fresh, sizeof fresh, ".varve-removed-%lu", removal->moved++);
    if (renameat2(folder, name, removal->top, fresh, RENAME_NOREPLACE) == 0) return true;
    if (errno != EEXIST) return false;
  }
  return false;
}

static int remove_folder(struct removal *removal, int folder, const char *name, int depth) {
  if (unlinkat(folder, name, AT_REMOVEDIR) == 0 || errno == ENOENT) return 0;
  if (errno != ENOTEMPTY && errno != EEXIST && errno != EACCES) return -1;
  if (depth >= DEEPEST && move_up(removal, folder, name)) return 0;
  int fd = open_to_empty(folder, name);
  if (fd < 0) return errno == ENOENT ? 0 : -1;
  if (empty_folder(removal, fd, depth) < 0) return -1;
  /* Somebody else may be removing the same trash. */
  return unlinkat(folder, name, AT_REMOVEDIR) == 0 || errno == ENOENT ? 0 : -1;
}

static int remove_entry(struct removal *removal, int folder, const char *name, int depth) {
  if (unlinkat(folder, name, 0) == 0 || errno == ENOENT) return 0;
  int error = errno;
  if (error == EISDIR || error == EPERM) {
    struct stat status;
    if (fstatat(folder, name, &status, AT_SYMLINK_NOFOLLOW) < 0) return errno == ENOENT ? 0 : -1;
    if (S_ISDIR(status.st_mode)) return remove_folder(removal, folder, name, depth);
  }
  if (error == EACCES && fchmod(folder, 0700) == 0) return unlinkat(folder, name, 0);
  errno = error;
  return -1;
}

/* Removes what `fd`, which it closes, holds. Goes round again while entries were left or have come by move_up. */
static int empty_folder(struct removal *removal, int fd, int depth) {
  DIR *stream = fdopendir(fd);
  if (stream == NULL) {
    close(fd);
    return -1;
  }
  int result = 0;
  bool again = true;
  while (again && result == 0) {
    again = false;
    struct dirent *entry;
    while (result == 0 && (entry = readdir(stream)) != NULL) {
      if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
      again = true;
      result = remove_entry(removal, fd, entry->d_name, depth + 1);
    }
    rewinddir(stream);
  }
  int error = errno;
  closedir(stream);
  errno = error;
  return result;
}

int remove_below(int folder, const char *name) {
  struct removal removal = {.top = -1, .moved = 0};
  if (unlinkat(folder, name, 0) == 0 || errno == ENOENT || errno == ENOTDIR) return 0;
  if (unlinkat(folder, name, AT_REMOVEDIR) == 0) return 0;
  removal.top = openat(folder, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (removal.top < 0) return errno == ENOENT ? 0 : -1;
  int result = remove_folder(&removal, folder, name, 0);
  int error = errno;
  close(removal.top);
  errno = error;
  return result;
}

int tree_remove_main(int argc, char **argv) {
  (void)argc;
  (void)argv;
  static struct tree unused;
  tree_init(&unused, -1);
  struct wire_in in;
  wire_in_init(&in, STDIN_FILENO);
  while (!wire_ended(&in)) {
    char *path = wire_text(&in);
    char *slash = strrchr(path, '/');
    if (slash == NULL || slash[1] == 0) {
      errno = EINVAL;
      tree_fail(path, "not a path of a folder to remove");
    }
    *slash = 0;
    int folder = host_open_folder(*path == 0 ? "/" : path, O_RDONLY);
    if (folder < 0) {
      if (errno != ENOENT && errno != ENOTDIR) tree_fail(path, "cannot open the folder");
    } else {
      if (remove_below(folder, slash + 1) < 0) {
        *slash = '/';
        tree_fail(path, "cannot remove the folder");
      }
      close(folder);
    }
    free(path);
  }
  struct wire_out out;
  wire_out_init(&out, STDOUT_FILENO);
  wire_put_u8(&out, 'Z');
  wire_flush(&out);
  return 0;
}
