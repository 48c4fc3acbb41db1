/*
 * The note that a build left in which nothing had to be done: what it rested on, and what it wrote. Its form is told in
 * docs/on-disk-format.md; varve writes it in cache/unchanged-note.ts. Whatever is wrong with a note, it does not hold.
 */
#ifndef VARVE_UNCHANGED_NOTE_H
#define VARVE_UNCHANGED_NOTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sha256.h"

/* Bytes that are not taken apart yet. Once anything was wrong in them, `bad` is true, and what is taken is nothing and 0. */
struct note_bytes {
  const unsigned char *at, *end;
  bool bad;
};

uint8_t note_u8(struct note_bytes *bytes);
uint32_t note_u32(struct note_bytes *bytes);
uint64_t note_u64(struct note_bytes *bytes);
/* As many bytes as are asked for; NULL where there are fewer. */
const unsigned char *note_raw(struct note_bytes *bytes, uint64_t size);
/* u32 size, then the bytes. */
const unsigned char *note_block(struct note_bytes *bytes, uint32_t *size);
/* A block that ends in a NUL byte; never NULL. */
const char *note_text(struct note_bytes *bytes);

/* Finds the facts in the whole of a note. False where it is torn, of another version, or another call's. */
bool note_open(struct note_bytes *note, const unsigned char call[SHA256_BYTES]);

/*
 * Compares all facts with the machine; `root` is the store's folder. What the build wrote is left in `facts` then: u8 descriptor, pieces,
 * again and again. False at the first difference.
 */
bool note_holds(struct note_bytes *facts, int root);

/* As note_holds(), of the facts that follow the machine's start and the generation. */
bool facts_hold(struct note_bytes *facts, int root);

#endif
