/*
 * varve-native unchanged PROGRAM [ARGUMENT ...]: varve, started by PROGRAM and its arguments, unless this very call was a build before in which
 * nothing had to be done, and all that it rested on is as it was then. Such a build left a note of that; what it wrote is written
 * again, and PROGRAM is never started. Wherever anything is other than noted, PROGRAM finds all as it was: nothing was read from a
 * stream, written or changed.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "commands.h"
#include "unchanged_call.h"
#include "unchanged_note.h"
#include "unchanged_output.h"

#define MOST_NOTE ((off_t)1 << 30)
/* Where SQLite keeps its locks in a file, and how many bytes they are (https://sqlite.org/fileformat2.html, "The Lock-Byte Page"). */
#define LOCK_BYTES 0x40000000
#define LOCK_SIZE 512

static bool has_streams(void) {
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
    if (fcntl(fd, F_GETFD) < 0) return false;
  }
  return true;
}

/* Whether a process of varve lives that has this lock; cache/locks.ts takes it by way of SQLite. */
static bool is_locked(int sessions, const char *name) {
  int fd = openat(sessions, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) return false;
  struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = LOCK_BYTES, .l_len = LOCK_SIZE};
  bool held = fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
  close(fd);
  return held;
}

/* Whether each name in `folder`, with `suffix` behind it, is that of a lock that a living process has. */
static bool all_live(int root, const char *folder, const char *suffix, int sessions) {
  int fd = openat(root, folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  DIR *names = fd < 0 ? NULL : fdopendir(fd);
  if (names == NULL) {
    if (fd >= 0) close(fd);
    return false;
  }
  bool live = true;
  struct dirent *entry;
  while (live && (errno = 0, entry = readdir(names)) != NULL) {
    char lock[NAME_MAX + 8];
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
    live = (size_t)snprintf(lock, sizeof lock, "%s%s", entry->d_name, suffix) < sizeof lock && is_locked(sessions, lock);
  }
  live = live && errno == 0;
  closedir(names);
  return live;
}

/* What a process left that died, the next one takes away: this is not the one to do it. */
static bool is_tidy(int root) {
  int sessions = openat(root, "sessions", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (sessions < 0) return false;
  bool tidy = all_live(root, "sessions", "", sessions) && all_live(root, "tmp", ".lock", sessions);
  close(sessions);
  return tidy;
}

static bool is_own(int fd, mode_t type, struct stat *found) {
  return fstat(fd, found) == 0 && (found->st_mode & S_IFMT) == type && found->st_uid == geteuid() && (found->st_mode & 022) == 0;
}

static int open_note(int root, const unsigned char call[SHA256_BYTES]) {
  char name[sizeof "unchanged/" + 2 * (size_t)SHA256_BYTES] = "unchanged/";
  for (size_t i = 0; i < SHA256_BYTES; i++) snprintf(name + strlen(name), 3, "%02x", call[i]);
  return openat(root, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
}

/* Read rather than mapped: a disk that fails, or a file that is cut meanwhile, must not end the process. */
static bool read_whole(int fd, unsigned char *bytes, size_t size) {
  size_t done = 0;
  while (done < size) {
    ssize_t got = read(fd, bytes + done, size - done);
    if (got > 0) done += (size_t)got;
    else if (got == 0 || errno != EINTR) return false;
  }
  return true;
}

/* Compares; writes what the note says where nothing differs. */
static bool answer_by(int note, int root, const unsigned char call[SHA256_BYTES], const struct timespec *began) {
  struct stat found;
  if (!is_own(note, S_IFREG, &found) || found.st_size <= 0 || found.st_size > MOST_NOTE) return false;
  size_t size = (size_t)found.st_size;
  unsigned char *bytes = malloc(size);
  struct note_bytes facts = {bytes, bytes == NULL ? NULL : bytes + size, false};
  /* The time of the note is when it was used last. */
  bool answered = bytes != NULL && read_whole(note, bytes, size) && note_open(&facts, call) && is_tidy(root) &&
                  note_holds(&facts, root) && futimens(note, NULL) == 0 && write_output(&facts, began);
  free(bytes);
  return answered;
}

static bool answer(char **words) {
  struct timespec began;
  unsigned char call[SHA256_BYTES];
  char path[PATH_MAX];
  clock_gettime(CLOCK_MONOTONIC, &began);
  if (!has_streams() || !unchanged_root(words, path) || !unchanged_call(words, call)) return false;
  int root = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (root < 0) return false;
  struct stat found;
  int note = is_own(root, S_IFDIR, &found) ? open_note(root, call) : -1;
  bool answered = note >= 0 && answer_by(note, root, call, &began);
  if (note >= 0) close(note);
  close(root);
  return answered;
}

int unchanged_main(int argc, char **argv) {
  if (argc < 2) return 2;
  if (answer(argv + 1)) return 0;
  execv(argv[1], argv + 1);
  perror(argv[1]);
  return 127;
}
