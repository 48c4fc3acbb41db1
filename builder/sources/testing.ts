/** Sources on a state folder of their own. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { HostPath } from '../../core/index.ts';
import { createBlobStore, createTransport } from '../../image/index.ts';
import type { Sources } from './contract.ts';
import { createSources, type SourcesOptions } from './sources.ts';

export function sourcesIn(root: string, options: Partial<SourcesOptions> = {}): Sources {
  const temporary = join(root, 'tmp') as HostPath;
  mkdirSync(temporary, { recursive: true });
  return createSources({
    folder: join(root, 'sources') as HostPath,
    temporary,
    blobs: createBlobStore({ root: root as HostPath }),
    transport: createTransport({ connectMs: 5000 }),
    userAgent: 'varve/test',
    env: { PATH: process.env['PATH'] },
    exclusively: (_key, work) => work(),
    now: Date.now,
    ...options,
  });
}
