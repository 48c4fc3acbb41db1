import { chmodSync, lstatSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { HostPath } from '../../core/index.ts';
import { removeFolder, temporaryFolder } from '../testing.ts';
import { type CredentialStore, createCredentialStore } from './credentials.ts';

let configDir: HostPath;
let store: CredentialStore;

beforeEach(() => {
  configDir = temporaryFolder();
  store = createCredentialStore({
    configDir,
    env: { PATH: `${configDir}:/usr/bin:/bin`, HELPER_DIR: configDir },
  });
});
afterEach(() => removeFolder(configDir));

const config = () => JSON.parse(readFileSync(join(configDir, 'config.json'), 'utf8'));
const write = (value: unknown) => writeFileSync(join(configDir, 'config.json'), JSON.stringify(value));
const BASIC = { kind: 'basic', username: 'me', password: 'se:cret' } as const;

/** A helper in the protocol of docker-credential-helpers that keeps one answer in a file. */
function installHelper(name: string): void {
  const file = join(configDir, `docker-credential-${name}`);
  writeFileSync(
    file,
    `#!/bin/sh
case "$1" in
get) if [ -f "$HELPER_DIR/kept" ]; then cat "$HELPER_DIR/kept"; else echo "credentials not found in native keychain"; exit 1; fi ;;
store) cat > "$HELPER_DIR/kept" ;;
erase) rm "$HELPER_DIR/kept" ;;
esac
`,
  );
  chmodSync(file, 0o755);
}

describe('createCredentialStore', () => {
  it('store, get and erase keep the rest of the file, with mode 0600', async () => {
    write({ detachKeys: 'ctrl-x', auths: { 'other.io': { auth: 'YTpi' } } });
    const file = join(configDir, 'config.json');
    expect(await store.store('reg.io:5000', BASIC)).toEqual({ kind: 'file', path: file });
    expect(await store.get('reg.io:5000')).toEqual(BASIC);
    expect(await store.get('reg.io')).toBeUndefined();
    expect(statSync(join(configDir, 'config.json')).mode & 0o777).toBe(0o600);
    expect(config()).toMatchObject({ detachKeys: 'ctrl-x', auths: { 'other.io': { auth: 'YTpi' } } });
    expect(await store.erase('reg.io:5000')).toBe(true);
    expect(await store.erase('reg.io:5000')).toBe(false);
    expect(config().auths).toEqual({ 'other.io': { auth: 'YTpi' } });
  });

  it('keeps a config.json that is a symlink, and changes what it points at', async () => {
    const real = join(configDir, 'real.json');
    writeFileSync(real, '{"psFormat":"x"}');
    symlinkSync('real.json', join(configDir, 'config.json'));
    await store.store('reg.io', BASIC);
    expect(lstatSync(join(configDir, 'config.json')).isSymbolicLink()).toBe(true);
    expect(JSON.parse(readFileSync(real, 'utf8'))).toMatchObject({ psFormat: 'x', auths: { 'reg.io': {} } });
  });

  it("uses Docker Hub's old key", async () => {
    await store.store('docker.io', BASIC);
    expect(Object.keys(config().auths)).toEqual(['https://index.docker.io/v1/']);
    expect(await store.get('docker.io')).toEqual(BASIC);
  });

  it('gives nothing where there is no file', async () => {
    expect(await store.get('reg.io')).toBeUndefined();
    expect(await store.erase('reg.io')).toBe(false);
  });

  it.each([
    ['a URL as key', { 'https://reg.io/v1/': { auth: 'bWU6c2U6Y3JldA==' } }, BASIC],
    ['fields of their own', { 'reg.io': { username: 'me', password: 'se:cret' } }, BASIC],
    [
      'an identity token',
      { 'reg.io': { auth: 'bWU6', identitytoken: 't' } },
      { kind: 'identity', token: 't' },
    ],
    ['a registry token', { 'reg.io': { registrytoken: 't' } }, { kind: 'bearer', token: 't' }],
    ['an empty entry', { 'reg.io': {} }, undefined],
  ])('get reads %s', async (_what, auths, expected) => {
    write({ auths });
    expect(await store.get('reg.io')).toEqual(expected);
  });

  it.each([
    ['credsStore', { credsStore: 'test' }],
    ['credHelpers', { credHelpers: { 'reg.io': 'test' }, credsStore: 'absent' }],
  ])('uses the helper of %s', async (_what, value) => {
    installHelper('test');
    write(value);
    expect(await store.get('reg.io')).toBeUndefined();
    expect(await store.store('reg.io', BASIC)).toEqual({ kind: 'helper', name: 'test' });
    expect(await store.get('reg.io')).toEqual(BASIC);
    expect(JSON.stringify(config())).not.toContain('auth":');
    expect(JSON.parse(readFileSync(join(configDir, 'kept'), 'utf8')).ServerURL).toBe('reg.io');
    expect(await store.erase('reg.io')).toBe(true);
    expect(await store.get('reg.io')).toBeUndefined();
  });

  it('reads an identity token from a helper', async () => {
    installHelper('test');
    write({ credsStore: 'test' });
    await store.store('reg.io', { kind: 'identity', token: 't' });
    expect(await store.get('reg.io')).toEqual({ kind: 'identity', token: 't' });
  });

  it.each(['../evil', 'a/b', '-x', 'a b'])('refuses the helper name %j', async (name) => {
    write({ credsStore: name });
    await expect(store.get('reg.io')).rejects.toMatchObject({ code: 'config-invalid' });
  });

  it('fails clearly for a helper that is not there, and for a file that is no JSON', async () => {
    write({ credsStore: 'absent' });
    await expect(store.get('reg.io')).rejects.toMatchObject({ code: 'credential-helper' });
    writeFileSync(join(configDir, 'config.json'), '{');
    await expect(store.get('reg.io')).rejects.toMatchObject({ code: 'config-invalid' });
  });
});
