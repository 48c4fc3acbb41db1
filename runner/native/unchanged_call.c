#define _GNU_SOURCE
#include "unchanged_call.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "user_namespace.h"

/* What shells say of themselves, and no program reads: it differs between two calls that are the same. */
static const char *const IGNORED[] = {"_=", "SHLVL=", "OLDPWD="};

static bool is_ignored(const char *variable) {
  for (size_t i = 0; i < sizeof IGNORED / sizeof *IGNORED; i++) {
    if (strncmp(variable, IGNORED[i], strlen(IGNORED[i])) == 0) return true;
  }
  return false;
}

static void put_number(struct sha256 *hash, uint32_t number) {
  unsigned char raw[4];
  for (size_t i = 0; i < sizeof raw; i++) raw[i] = (unsigned char)(number >> (8 * i));
  sha256_add(hash, raw, sizeof raw);
}

static void put_text(struct sha256 *hash, const char *text) { sha256_add(hash, text, strlen(text) + 1); }

static void put_terminals(struct sha256 *hash) {
  struct winsize size = {0};
  bool out = isatty(STDOUT_FILENO) == 1, err = isatty(STDERR_FILENO) == 1;
  if (err && ioctl(STDERR_FILENO, TIOCGWINSZ, &size) < 0) memset(&size, 0, sizeof size);
  put_number(hash, out);
  put_number(hash, err);
  put_number(hash, size.ws_col);
  put_number(hash, size.ws_row);
}

bool unchanged_call(char **words, unsigned char digest[SHA256_BYTES]) {
  char folder[PATH_MAX];
  if (getcwd(folder, sizeof folder) == NULL || *folder != '/') return false;
  struct sha256 hash;
  sha256_begin(&hash);
  put_text(&hash, "varve unchanged 1");
  uint32_t count = 0;
  for (char **word = words; *word != NULL; word++) count++;
  put_number(&hash, count);
  for (char **word = words; *word != NULL; word++) put_text(&hash, *word);
  count = 0;
  for (char **variable = environ; *variable != NULL; variable++) count += !is_ignored(*variable);
  put_number(&hash, count);
  for (char **variable = environ; *variable != NULL; variable++) {
    if (!is_ignored(*variable)) put_text(&hash, *variable);
  }
  put_text(&hash, folder);
  put_terminals(&hash);
  sha256_end(&hash, digest);
  return true;
}

static bool set_root(char root[PATH_MAX], const char *folder, const char *below) {
  return *folder != '\0' && (size_t)snprintf(root, PATH_MAX, "%s%s", folder, below) < PATH_MAX;
}

bool unchanged_root(char **words, char root[PATH_MAX]) {
  static const char FLAG[] = "--root";
  const char *given = NULL;
  for (char **word = words; *word != NULL; word++) {
    if (strcmp(*word, FLAG) == 0 && word[1] != NULL) given = word[1];
    else if (strncmp(*word, FLAG, sizeof FLAG - 1) == 0 && (*word)[sizeof FLAG - 1] == '=') given = *word + sizeof FLAG;
  }
  if (given == NULL) given = getenv("VARVE_ROOT");
  if (given != NULL && *given != '\0') return set_root(root, given, "");
  if (calling_user() == 0) return set_root(root, "/var/lib/varve", "");
  const char *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
  if (data != NULL && *data == '/') return set_root(root, data, "/varve");
  return home != NULL && set_root(root, home, "/.local/share/varve");
}
