import { cp, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Store } from './store.ts';

const APPS = join(import.meta.dirname, '../fixtures/apps');

/** A Node application that is copied whole, then installed, then bundled. */
export interface NodeApplication {
  readonly copyTo: (folder: string) => Promise<void>;
  /** What a container of its image is given, to answer with the greeting of `src/greeting.js`. */
  readonly question: readonly string[];
}

/** Of 340 packages, or of 30 for a quick run. */
export function nodeApplication({ quick }: { readonly quick: boolean }): NodeApplication {
  const large = join(APPS, 'node-service');
  const path = '/greet/you';
  if (!quick) return { copyTo: (folder) => cp(large, folder, { recursive: true }), question: [path] };
  return {
    copyTo: async (folder) => {
      await cp(join(APPS, 'node-app'), folder, { recursive: true });
      await cp(join(large, 'Dockerfile'), join(folder, 'Dockerfile'));
    },
    question: ['GET', path],
  };
}

/** A C program of many sources and headers, with a Makefile. */
export async function writeSources(folder: string, sources: number, headers: number): Promise<void> {
  for (let i = 0; i < headers; i += 1) {
    const text = `#ifndef H${i}\n#define H${i}\nstatic inline int h${i}(int x) { return x * ${i + 1}; }\n#endif\n`;
    await writeFile(join(folder, `h${i}.h`), text);
  }
  for (let i = 0; i < sources; i += 1) {
    const used = Array.from({ length: 10 }, (_, j) => (i * 7 + j) % headers);
    const includes = [...new Set(used)].map((header) => `#include "h${header}.h"\n`).join('');
    const body = [...new Set(used)].map((header) => `    x += h${header}(x);\n`).join('');
    const text = `#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n${includes}int f${i}(int x) {\n${body}    return x;\n}\n`;
    await writeFile(join(folder, `f${i}.c`), text);
  }
  const objects = Array.from({ length: sources }, (_, i) => `f${i}.o`).join(' ');
  await writeFile(join(folder, 'Makefile'), `all: ${objects}\n%.o: %.c\n\t$(CC) -O1 -c -o $@ $<\n`);
}

const FILES_IN_FOLDER = 20;

/** Many files of 0 to 8 kB, 20 in a folder, the same ones each time. */
export async function writeManyFiles(folder: string, count: number): Promise<void> {
  const filling = Buffer.alloc(8192, 'The quick brown fox jumps over the lazy dog.\n');
  for (let first = 0; first < count; first += FILES_IN_FOLDER) {
    const number = first / FILES_IN_FOLDER;
    const inner = join(folder, `group-${Math.floor(number / 50)}`, `part-${number}`);
    await mkdir(inner, { recursive: true });
    const names = Array.from({ length: Math.min(FILES_IN_FOLDER, count - first) }, (_, i) => first + i);
    await Promise.all(
      names.map((i) => writeFile(join(inner, `file-${i}.txt`), filling.subarray(0, (i * 2654435761) % 8192))),
    );
  }
}

/** Debian packages with all that they need beyond the base, as `.deb` files in `folder`, from the machine's mirrors. */
export async function downloadPackages(
  store: Store,
  packages: readonly string[],
  folder: string,
): Promise<void> {
  await store.base('debian');
  const fetch = `apt-get update && apt-get install -y --no-install-recommends --download-only -o Dir::Cache::archives=/debs/ ${packages.join(' ')}`;
  const dockerfile = `FROM localhost/debian AS fetch
RUN mkdir -p /debs/partial && ${fetch} && rm -r /debs/partial /debs/lock
FROM scratch
COPY --from=fetch /debs /
`;
  const empty = join(folder, '..', 'nothing');
  await mkdir(empty, { recursive: true });
  await store.build(['--output', `type=local,dest=${folder}`, empty], dockerfile);
}
