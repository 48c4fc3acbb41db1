#define _GNU_SOURCE
#include "tree_made.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "failure.h"
#include "wire.h"

static size_t hash(dev_t device, ino_t inode, const char *name) {
  uint64_t value = 14695981039346656037U ^ (uint64_t)device * 31 ^ (uint64_t)inode * 1099511628211U;
  for (; *name != 0; name++) value = (value ^ (unsigned char)*name) * 1099511628211U;
  return (size_t)(value ^ value >> 32);
}

/* The slot that holds the name, or the free one where it would go. Capacity is a power of two and never full. */
static struct made_name *slot_of(const struct made *made, const struct tree_place *place) {
  size_t at = hash(place->device, place->inode, place->name);
  for (;; at++) {
    struct made_name *slot = &made->slots[at & (made->capacity - 1)];
    if (slot->name == NULL) return slot;
    if (slot->inode == place->inode && slot->device == place->device && strcmp(slot->name, place->name) == 0) return slot;
  }
}

static void grow(struct made *made) {
  struct made larger = {.capacity = made->capacity == 0 ? 1024 : made->capacity * 2, .count = made->count};
  larger.slots = wire_allocate(larger.capacity * sizeof *larger.slots);
  for (size_t i = 0; i < made->capacity; i++) {
    const struct made_name *old = &made->slots[i];
    if (old->name == NULL) continue;
    struct tree_place place = {.device = old->device, .inode = old->inode, .name = old->name};
    *slot_of(&larger, &place) = *old;
  }
  free(made->slots);
  *made = larger;
}

void made_add(struct made *made, const struct tree_place *place) {
  if (made->count * 2 >= made->capacity) grow(made);
  struct made_name *slot = slot_of(made, place);
  if (slot->name != NULL) return;
  char *name = strdup(place->name);
  if (name == NULL) fail(ENOMEM, "out-of-memory", NULL, "cannot allocate a name");
  *slot = (struct made_name){.device = place->device, .inode = place->inode, .name = name};
  made->count++;
}

bool made_has(const struct made *made, const struct tree_place *place) {
  return made->capacity > 0 && slot_of(made, place)->name != NULL;
}
