import manifest from '../package.json' with { type: 'json' };

/** The version in package.json; the bundle holds it, so that no file is read. */
export function readVersion(): string {
  return manifest.version;
}
