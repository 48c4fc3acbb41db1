import type { Platform } from '../core/index.ts';
import { formatPlatform, parsePlatform } from '../image/index.ts';
import { stop } from './stop.ts';

/** The platforms that were asked for, each once, in order. Ends the build at one that is none. */
export function readPlatforms(texts: readonly string[], local: Platform): readonly Platform[] {
  const found = new Map<string, Platform>();
  for (const text of texts) {
    const platform = text === 'local' ? local : parsePlatform(text, local);
    if (platform === undefined) {
      stop('invalid-platform', `failed to parse platform ${JSON.stringify(text)}`, {
        hint: 'Write os/architecture, such as linux/amd64.',
      });
    }
    found.set(formatPlatform(platform), platform);
  }
  return [...found.values()];
}
