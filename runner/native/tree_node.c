#define _GNU_SOURCE
#include "tree_node.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "user_namespace.h"

static int make_stand_in(const struct tree_place *place, mode_t type, dev_t device) {
  char text[64];
  int length = snprintf(text, sizeof text, "%c %u %u", S_ISCHR(type) ? 'c' : 'b', major(device), minor(device));
  int fd = openat(place->folder, place->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (fd < 0) return -1;
  int result = fsetxattr(fd, STAND_IN, text, (size_t)length, XATTR_CREATE);
  int error = errno;
  close(fd);
  if (result < 0) unlinkat(place->folder, place->name, 0);
  errno = error;
  return result;
}

int node_make(const struct tree_place *place, mode_t type, dev_t device) {
  if (mknodat(place->folder, place->name, type | 0600, device) == 0) return 0;
  bool is_device = S_ISCHR(type) || S_ISBLK(type);
  /* A file system that is itself an overlay takes no whiteout of anybody. */
  bool refused = is_in_user_namespace() || (S_ISCHR(type) && device == 0);
  if (errno != EPERM || !is_device || !refused) return -1;
  return make_stand_in(place, type, device);
}

bool node_stood_for(const char *file, struct stat *status) {
  if (!S_ISREG(status->st_mode) || status->st_size != 0) return false;
  char text[64], letter;
  unsigned major_number, minor_number;
  ssize_t size = lgetxattr(file, STAND_IN, text, sizeof text - 1);
  if (size < 0) return false;
  text[size] = '\0';
  if (sscanf(text, "%c %u %u", &letter, &major_number, &minor_number) != 3 || (letter != 'c' && letter != 'b')) return false;
  bool is_whiteout = letter == 'c' && major_number == 0 && minor_number == 0;
  if (!is_whiteout && !is_in_user_namespace()) return false;
  status->st_mode = (status->st_mode & 07777) | (letter == 'c' ? S_IFCHR : S_IFBLK);
  status->st_rdev = makedev(major_number, minor_number);
  return true;
}
