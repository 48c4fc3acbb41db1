/*
 * Hashes the tar of a layer: HashTar of core/native.ts.
 *
 * Orders: text folder, on the host, text folder of the original where the diff is a patch, else no text, then until 'z'
 *   'b' bytes: as they are
 *   'f' text path in the folder, u64 size: the content of a regular file of that size, and zeros up to the end of its last block
 *   'o' the same of a file in the original's folder
 * The result: u8 'D', the 32 bytes of the SHA-256 of all of it, u64 how many bytes that were, u8 'Z'.
 * A file that is not as it was announced fails with code `layer-source-changed`.
 *
 * This thread reads, another one hashes: between them lies a ring of slots.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "commands.h"
#include "failure.h"
#include "sha256.h"
#include "tree_path.h"
#include "wire.h"

#define TAR_BLOCK 512
#define SLOT_BYTES ((size_t)256 * 1024)
#define SLOTS 8

struct slot {
  size_t used;
  unsigned char bytes[SLOT_BYTES];
};

struct ring {
  pthread_mutex_t lock;
  pthread_cond_t moved;
  uint64_t filled, hashed; /* slots since the beginning */
  bool ended;
  struct sha256 hash;
  uint64_t size;
  struct slot slots[SLOTS];
};

static struct slot *filling(struct ring *ring) { return &ring->slots[ring->filled % SLOTS]; }

/* Gives the slot that is being filled to the other thread, and waits for the next one to be free. */
static void hand_over(struct ring *ring) {
  ring->size += filling(ring)->used;
  pthread_mutex_lock(&ring->lock);
  ring->filled++;
  pthread_cond_broadcast(&ring->moved);
  while (ring->filled - ring->hashed == SLOTS) pthread_cond_wait(&ring->moved, &ring->lock);
  pthread_mutex_unlock(&ring->lock);
  filling(ring)->used = 0;
}

/* Where to put bytes next, and how many have room there: at least one. */
static unsigned char *room(struct ring *ring, size_t *size) {
  if (filling(ring)->used == SLOT_BYTES) hand_over(ring);
  struct slot *slot = filling(ring);
  *size = SLOT_BYTES - slot->used;
  return slot->bytes + slot->used;
}

static void *hash_slots(void *argument) {
  struct ring *ring = argument;
  for (;;) {
    pthread_mutex_lock(&ring->lock);
    while (ring->filled == ring->hashed && !ring->ended) pthread_cond_wait(&ring->moved, &ring->lock);
    bool done = ring->filled == ring->hashed;
    pthread_mutex_unlock(&ring->lock);
    if (done) return NULL;
    const struct slot *slot = &ring->slots[ring->hashed % SLOTS];
    sha256_add(&ring->hash, slot->bytes, slot->used);
    pthread_mutex_lock(&ring->lock);
    ring->hashed++;
    pthread_cond_broadcast(&ring->moved);
    pthread_mutex_unlock(&ring->lock);
  }
}

static void put_bytes(struct ring *ring, struct wire_in *in) {
  for (uint32_t left = wire_u32(in); left > 0;) {
    size_t space;
    unsigned char *to = room(ring, &space);
    const unsigned char *from;
    size_t got = wire_lend(in, &from, left < space ? left : space);
    memcpy(to, from, got);
    filling(ring)->used += got;
    left -= (uint32_t)got;
  }
}

static void put_zeros(struct ring *ring, size_t left) {
  while (left > 0) {
    size_t space;
    unsigned char *to = room(ring, &space);
    size_t step = left < space ? left : space;
    memset(to, 0, step);
    filling(ring)->used += step;
    left -= step;
  }
}

static _Noreturn void changed(int error, const char *path, const char *what) {
  fail(error, "layer-source-changed", path, "a file %s while its layer was being packed", what);
}

static int open_unchanged(struct tree *tree, const char *path, uint64_t size) {
  struct tree_place place;
  if (tree_find(tree, path, false, &place) < 0) changed(errno, path, "went away");
  int fd = openat(place.folder, place.name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  struct stat status;
  if (fd < 0 || fstat(fd, &status) < 0) changed(errno, path, "could not be read");
  if (!S_ISREG(status.st_mode)) changed(0, path, "became something else");
  if ((uint64_t)status.st_size != size) changed(0, path, "got another size");
  return fd;
}

/* Asks for a byte more than there should be: where less comes than was asked for, that was the file's end. */
static void put_file(struct ring *ring, struct tree *tree, const char *path, uint64_t size) {
  int fd = open_unchanged(tree, path, size);
  bool at_end = false;
  for (uint64_t left = size; left > 0 || !at_end;) {
    size_t space;
    unsigned char *to = room(ring, &space);
    size_t asked = left + 1 < space ? (size_t)left + 1 : space;
    ssize_t got = read(fd, to, asked);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) changed(errno, path, "could not be read");
    if (got == 0 && left > 0) changed(0, path, "became shorter");
    if ((uint64_t)got > left) changed(0, path, "became longer");
    at_end = (size_t)got < asked;
    filling(ring)->used += (size_t)got;
    left -= (uint64_t)got;
  }
  close(fd);
  put_zeros(ring, (TAR_BLOCK - size % TAR_BLOCK) % TAR_BLOCK);
}

struct folders {
  struct tree own, original;
};

static void follow_orders(struct ring *ring, struct folders *folders, struct wire_in *in) {
  uint8_t order;
  while ((order = wire_u8(in)) != 'z') {
    if (order == 'b') {
      put_bytes(ring, in);
      continue;
    }
    if (order != 'f' && order != 'o') fail(0, "protocol", NULL, "an order of unknown kind %u", order);
    char *path = wire_text(in);
    uint64_t size = wire_u64(in);
    if (size > INT64_MAX) fail(0, "protocol", path, "a size beyond all files");
    put_file(ring, order == 'f' ? &folders->own : &folders->original, path, size);
    free(path);
  }
}

static void open_folder(struct tree *tree, const char *folder) {
  int root = host_open_folder(folder, O_PATH);
  if (root < 0) tree_fail(folder, "cannot open the folder");
  tree_init(tree, root);
}

int tar_hash_main(int argc, char **argv) {
  (void)argc;
  (void)argv;
  static struct folders folders;
  struct wire_in in;
  wire_in_init(&in, STDIN_FILENO);
  char *folder = wire_text(&in), *original = wire_text(&in);
  open_folder(&folders.own, folder);
  if (*original != '\0') open_folder(&folders.original, original);
  struct ring *ring = wire_allocate(sizeof *ring);
  pthread_mutex_init(&ring->lock, NULL);
  pthread_cond_init(&ring->moved, NULL);
  sha256_begin(&ring->hash);
  pthread_t hasher;
  int error = pthread_create(&hasher, NULL, hash_slots, ring);
  if (error != 0) fail(error, "native-failed", NULL, "cannot start a thread");
  follow_orders(ring, &folders, &in);
  hand_over(ring);
  pthread_mutex_lock(&ring->lock);
  ring->ended = true;
  pthread_cond_broadcast(&ring->moved);
  pthread_mutex_unlock(&ring->lock);
  pthread_join(hasher, NULL);
  unsigned char digest[SHA256_BYTES];
  sha256_end(&ring->hash, digest);
  struct wire_out out;
  wire_out_init(&out, STDOUT_FILENO);
  wire_put_u8(&out, 'D');
  wire_put_encoded(&out, digest, sizeof digest);
  wire_put_u64(&out, ring->size);
  wire_put_u8(&out, 'Z');
  wire_flush(&out);
  free(ring);
  free(original);
  free(folder);
  return 0;
}
