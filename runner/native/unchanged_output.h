/* What a build wrote, with the times in it as they are now. */
#ifndef VARVE_UNCHANGED_OUTPUT_H
#define VARVE_UNCHANGED_OUTPUT_H

#include <stdbool.h>
#include <time.h>

#include "unchanged_note.h"

/*
 * Takes the output up to the end of `output` and writes it: u8 descriptor, u32 pieces, and of each piece u8 kind:
 *   0  block: these bytes
 *   1  i64 ms since 1970: how long ago that is, as cache/explain.ts says it: "5 minutes ago", "a moment ago"
 *   2  how many seconds have passed since `began` (CLOCK_MONOTONIC), as cli/progress/text.ts says it: "0.1s"
 * False where it cannot be written and nothing was. What fails later ends the process.
 */
bool write_output(struct note_bytes *output, const struct timespec *began);

#endif
