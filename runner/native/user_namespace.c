#define _GNU_SOURCE
#include "user_namespace.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "commands.h"

/* Ids above root that are mapped where the user has as many subordinate ones: what images need. */
#define WANTED_IDS 65535

static bool read_map(void) {
  unsigned inside, outside, count;
  FILE *map = fopen("/proc/self/uid_map", "re");
  if (map == NULL) return false;
  bool is_initial = fscanf(map, "%u %u %u", &inside, &outside, &count) == 3 && inside == 0 && outside == 0 && count == 4294967295U;
  fclose(map);
  return !is_initial;
}

bool is_in_user_namespace(void) {
  static int known = -1;
  if (known < 0) known = read_map();
  return known == 1;
}

unsigned calling_user(void) {
  unsigned inside, outside, count, uid = getuid();
  FILE *map = fopen("/proc/self/uid_map", "re");
  if (map == NULL) return uid;
  bool found = fscanf(map, "%u %u %u", &inside, &outside, &count) == 3;
  fclose(map);
  return found && uid == 0 ? outside : uid;
}

bool may_set_groups(void) {
  char word[8] = "";
  FILE *file = fopen("/proc/self/setgroups", "re");
  if (file == NULL) return true;
  bool may = fscanf(file, "%7s", word) != 1 || strcmp(word, "deny") != 0;
  fclose(file);
  return may;
}

bool is_group_mapped(unsigned group) {
  unsigned inside, outside, count;
  FILE *map = fopen("/proc/self/gid_map", "re");
  if (map == NULL) return true;
  bool found = false;
  while (!found && fscanf(map, "%u %u %u", &inside, &outside, &count) == 3) found = group >= inside && group - inside < count;
  fclose(map);
  return found;
}

struct range {
  unsigned start, count;
};

/* The user's name by passwd(5); none of the name service's plugins can be had in a static program. */
static void name_of(uid_t uid, char *name, size_t size) {
  *name = '\0';
  FILE *users = fopen("/etc/passwd", "re");
  if (users == NULL) return;
  char line[1024], found[256];
  unsigned id;
  while (fgets(line, sizeof line, users) != NULL) {
    if (sscanf(line, "%255[^:]:%*[^:]:%u:", found, &id) == 2 && id == uid) {
      snprintf(name, size, "%s", found);
      break;
    }
  }
  fclose(users);
}

/* The user's first range in subuid(5) or subgid(5), by name or number; a count of 0 where there is none. */
static struct range subordinate(const char *file, uid_t uid) {
  char name[256], number[16], line[1024], owner[256];
  name_of(uid, name, sizeof name);
  snprintf(number, sizeof number, "%u", uid);
  struct range range = {0, 0};
  FILE *ranges = fopen(file, "re");
  if (ranges == NULL) return range;
  while (range.count == 0 && fgets(line, sizeof line, ranges) != NULL) {
    struct range one;
    if (sscanf(line, "%255[^:]:%u:%u", owner, &one.start, &one.count) != 3) continue;
    if (strcmp(owner, number) == 0 || (*name != '\0' && strcmp(owner, name) == 0)) range = one;
  }
  fclose(ranges);
  if (range.count > WANTED_IDS) range.count = WANTED_IDS;
  return range;
}

/* Runs newuidmap(1) or newgidmap(1) for `target`: only they, being setuid, may map more than the user's own id. */
static bool map_with(const char *program, pid_t target, unsigned own, struct range more) {
  char pid[16], self[16], start[16], count[16];
  snprintf(pid, sizeof pid, "%d", target);
  snprintf(self, sizeof self, "%u", own);
  snprintf(start, sizeof start, "%u", more.start);
  snprintf(count, sizeof count, "%u", more.count);
  pid_t child = fork();
  if (child == 0) {
    char *const environment[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL};
    char *const arguments[] = {(char *)program, pid, "0", self, "1", "1", start, count, NULL};
    execvpe(program, arguments, environment);
    _exit(127);
  }
  int status;
  return child > 0 && waitpid(child, &status, 0) == child && status == 0;
}

static bool write_file(const char *path, const char *text) {
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return false;
  bool done = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
  close(fd);
  return done;
}

/* One id only: files of other owners can then not be made. */
static bool map_alone(uid_t uid, gid_t gid) {
  char line[32];
  snprintf(line, sizeof line, "0 %u 1", uid);
  if (!write_file("/proc/self/setgroups", "deny") || !write_file("/proc/self/uid_map", line)) return false;
  snprintf(line, sizeof line, "0 %u 1", gid);
  return write_file("/proc/self/gid_map", line);
}

/* A process that stays outside and maps all ids for its parent when that has made its namespace. Returns a descriptor to ask it by. */
static int start_mapper(pid_t *mapper) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) < 0) return -1;
  pid_t parent = getpid();
  uid_t uid = getuid();
  gid_t gid = getgid();
  struct range uids = subordinate("/etc/subuid", uid), gids = subordinate("/etc/subgid", uid);
  *mapper = fork();
  if (*mapper == 0) {
    char go;
    close(ends[1]);
    if (read(ends[0], &go, 1) != 1 || uids.count == 0 || gids.count == 0) _exit(1);
    _exit(map_with("newuidmap", parent, uid, uids) && map_with("newgidmap", parent, gid, gids) ? 0 : 1);
  }
  close(ends[0]);
  return *mapper < 0 ? -1 : ends[1];
}

int as_root_main(int argc, char **argv) {
  if (argc < 2) return 2;
  uid_t uid = getuid();
  gid_t gid = getgid();
  pid_t mapper = -1;
  int ask = uid == 0 ? -1 : start_mapper(&mapper);
  if (ask >= 0) {
    int status = 1;
    bool made = unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0;
    if (made && write(ask, "", 1) != 1) made = false;
    close(ask);
    bool mapped = waitpid(mapper, &status, 0) == mapper && status == 0;
    if (made && (mapped || map_alone(uid, gid))) {
      if (setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0) return 1;
    }
  }
  execv(argv[1], argv + 1);
  perror(argv[1]);
  return 127;
}
