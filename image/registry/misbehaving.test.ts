import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Descriptor, digestOf, type HostPath, MEDIA_TYPE } from '../../core/index.ts';
import type { Layer, Registry } from '../contract.ts';
import { encodeManifest } from '../manifest.ts';
import { createTestStore, reference, removeFolder, type TestStore, temporaryFolder } from '../testing.ts';
import type { Credentials } from './credentials.ts';
import { createRegistry } from './registry.ts';
import { createTransport } from './transport.ts';

const AMD64 = { os: 'linux', architecture: 'amd64' };
const BLOB = Buffer.alloc(600_000, 'varve ');
const LAYER: Descriptor = { mediaType: MEDIA_TYPE.ociLayerGzip, digest: digestOf(BLOB), size: BLOB.length };

let server: Server;
let address: string;
let handler: (request: IncomingMessage, response: ServerResponse, count: number) => void;
let requests: { readonly line: string; readonly headers: IncomingMessage['headers'] }[];
let pauses: number[];
let root: HostPath;
let store: TestStore;

beforeEach(async () => {
  requests = [];
  pauses = [];
  root = temporaryFolder();
  store = createTestStore(root);
  server = createServer((request, response) => {
    requests.push({ line: `${request.method} ${request.url}`, headers: request.headers });
    handler(request, response, requests.length);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterEach(async () => {
  removeFolder(root);
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
});

function client(credentials?: Credentials): Registry {
  return createRegistry({
    credentials: { get: async () => credentials },
    config: {},
    userAgent: 'varve-test',
    transport: createTransport({ stallMs: 300 }),
    sleep: async (ms) => {
      pauses.push(ms);
    },
  });
}

const fetchLayer = (): Promise<void> =>
  client().fetchBlobs(reference(`${address}/app:1`), [LAYER], { blobs: store.blobs });

const resolveApp = (credentials?: Credentials) =>
  client(credentials).resolve(reference(`${address}/app:1`), AMD64);

async function expectNothingKept(): Promise<void> {
  expect(await store.blobs.list()).toEqual([]);
}

describe('fetchBlobs', () => {
  it('asks for the rest after the connection was cut', async () => {
    handler = (request, response, count) => {
      const from = Number(/bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0);
      response.writeHead(from > 0 ? 206 : 200, {
        'content-length': BLOB.length - from,
        ...(from > 0 ? { 'content-range': `bytes ${from}-${BLOB.length - 1}/${BLOB.length}` } : {}),
      });
      if (count > 4) response.end(BLOB.subarray(from));
      else
        response.write(BLOB.subarray(from, from + 100_000), () => setTimeout(() => response.destroy(), 20));
    };
    await fetchLayer();
    expect(await store.blobs.size(LAYER.digest)).toBe(BLOB.length);
    expect(requests.slice(1).every((request) => request.headers.range !== undefined)).toBe(true);
  });

  it('takes the whole again from a server that knows no ranges', async () => {
    handler = (_request, response, count) => {
      response.writeHead(200, { 'content-length': BLOB.length });
      if (count > 1) response.end(BLOB);
      else response.write(BLOB.subarray(0, 250_000), () => setTimeout(() => response.destroy(), 20));
    };
    await fetchLayer();
    expect(await store.blobs.has(LAYER.digest)).toBe(true);
    expect(requests).toHaveLength(2);
  });

  it('goes on after a stall', async () => {
    handler = (_request, response, count) => {
      response.writeHead(200, { 'content-length': BLOB.length });
      if (count > 1) response.end(BLOB);
      else response.write(BLOB.subarray(0, 1000));
    };
    await fetchLayer();
    expect(await store.blobs.has(LAYER.digest)).toBe(true);
  });

  it.each([
    ['is silent for ever', () => {}],
    ['resets every connection', (request: IncomingMessage) => request.socket.resetAndDestroy()],
    [
      'never comes back',
      (_request: IncomingMessage, response: ServerResponse) => response.writeHead(503).end(),
    ],
  ])('gives up on a server that %s', async (_what, behave) => {
    handler = behave;
    await expect(fetchLayer()).rejects.toMatchObject({ code: 'registry-unreachable' });
    expect(requests).toHaveLength(5);
    await expectNothingKept();
  });

  it.each([
    ['other bytes of the same length', Buffer.alloc(BLOB.length, 'evil')],
    ['more bytes', Buffer.concat([BLOB, BLOB])],
  ])('refuses %s', async (_what, bytes) => {
    handler = (_request, response) => response.writeHead(200).end(bytes);
    await expect(fetchLayer()).rejects.toMatchObject({ code: 'digest-mismatch' });
    await expectNothingKept();
  });

  it('refuses another part than it asked for', async () => {
    handler = (_request, response, count) => {
      if (count > 1) response.writeHead(206, { 'content-range': 'bytes 0-5/6' }).end('wrong');
      else {
        response.writeHead(200, { 'content-length': BLOB.length });
        response.write(BLOB.subarray(0, 1000), () => setTimeout(() => response.destroy(), 20));
      }
    };
    await expect(fetchLayer()).rejects.toMatchObject({ code: 'registry-protocol' });
    await expectNothingKept();
  });

  it('ends at an endless redirect', async () => {
    handler = (request, response) => response.writeHead(307, { location: `${request.url}x` }).end();
    await expect(fetchLayer()).rejects.toMatchObject({ code: 'registry-protocol' });
    expect(requests).toHaveLength(11);
  });

  it('the first blob that fails stops the others', async () => {
    handler = (request, response) => {
      if (request.url?.includes(LAYER.digest)) response.writeHead(404).end();
      else response.writeHead(200, { 'content-length': 1000 }).write('x');
    };
    const others = ['a', 'b'].map((text) => ({ ...LAYER, digest: digestOf(text), size: 1000 }));
    const fetching = client().fetchBlobs(reference(`${address}/app:1`), [LAYER, ...others], {
      blobs: store.blobs,
    });
    await expect(fetching).rejects.toMatchObject({ code: 'image-unknown' });
  });
});

describe('retries', () => {
  it('wait as long as Retry-After says, and at most 30 s', async () => {
    handler = (_request, response, count) => {
      if (count === 1) response.writeHead(429, { 'retry-after': '7' }).end();
      else if (count === 2) response.writeHead(503, { 'retry-after': '3600' }).end();
      else
        response.writeHead(404).end('{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}');
    };
    await expect(resolveApp()).rejects.toMatchObject({
      code: 'image-unknown',
      message: expect.stringContaining('manifest unknown'),
    });
    expect(pauses).toEqual([7000, 30_000]);
  });

  it('end with registry-unreachable when nothing listens', async () => {
    const refused = client().resolve(reference('127.0.0.1:1/app:1'), AMD64);
    await expect(refused).rejects.toMatchObject({ code: 'registry-unreachable' });
  });
});

describe('resolve', () => {
  it.each([
    ['no JSON', 'nonsense', 'image-invalid'],
    ['schema version 1', '{"schemaVersion":1}', 'image-invalid'],
    [
      'a path for a digest',
      '{"schemaVersion":2,"config":{"digest":"../../x","size":1,"mediaType":"x"},"layers":[]}',
      'image-invalid',
    ],
    ['more than 4 MiB', ' '.repeat(5_000_000), 'registry-protocol'],
  ])('refuses a manifest that is %s', async (_what, body, code) => {
    handler = (_request, response) => response.writeHead(200).end(body);
    await expect(resolveApp()).rejects.toMatchObject({ code });
  });

  it('refuses a manifest with another digest than the server says', async () => {
    handler = (_request, response) => {
      response.writeHead(200, { 'docker-content-digest': digestOf('other') }).end('{"schemaVersion":2}');
    };
    await expect(resolveApp()).rejects.toMatchObject({ code: 'digest-mismatch' });
  });

  it('asks again for a manifest that was cut, and gives up in the end', async () => {
    handler = (_request, response, count) => {
      response.writeHead(200, { 'content-length': 1000 });
      if (count > 2) response.end('x'.repeat(1000));
      else response.write('x', () => setTimeout(() => response.destroy(), 20));
    };
    await expect(resolveApp()).rejects.toMatchObject({ code: 'image-invalid' });
    handler = (_request, response) => {
      response.writeHead(200, { 'content-length': 1000 });
      response.write('x', () => setTimeout(() => response.destroy(), 20));
    };
    await expect(resolveApp()).rejects.toMatchObject({ code: 'registry-unreachable' });
    handler = (_request, response) => {
      response.writeHead(404, { 'content-length': 1000 });
      response.write('x', () => setTimeout(() => response.destroy(), 20));
    };
    await expect(resolveApp()).rejects.toMatchObject({ code: 'registry-unreachable' });
  });

  it('chooses from an index and never takes an attestation', async () => {
    const config = Buffer.from(
      JSON.stringify({ os: 'linux', architecture: 'amd64', rootfs: { type: 'layers', diff_ids: [] } }),
    );
    const manifest = Buffer.from(encodeManifest({ config, layers: [] }));
    const entry = (more: object) => ({
      mediaType: MEDIA_TYPE.ociManifest,
      digest: digestOf(manifest),
      size: 1,
      ...more,
    });
    const index = {
      schemaVersion: 2,
      mediaType: MEDIA_TYPE.ociIndex,
      manifests: [
        entry({ digest: digestOf('att'), platform: { os: 'unknown', architecture: 'unknown' } }),
        entry({ digest: digestOf('arm'), platform: { os: 'linux', architecture: 'arm64' } }),
        entry({ platform: { os: 'linux', architecture: 'amd64' } }),
      ],
    };
    handler = (request, response) => {
      const bodies = [JSON.stringify(index), manifest, config];
      const at = request.url?.endsWith('/manifests/1') ? 0 : request.url?.includes('/manifests/') ? 1 : 2;
      response.writeHead(200).end(bodies[at]);
    };
    expect((await resolveApp()).manifestDigest).toBe(digestOf(manifest));
    const riscv = client().resolve(reference(`${address}/app:1`), { os: 'linux', architecture: 'riscv64' });
    await expect(riscv).rejects.toMatchObject({
      code: 'no-platform',
      hint: 'it has images for linux/arm64, linux/amd64',
    });
  });
});

describe('authentication', () => {
  const basic: Credentials = { kind: 'basic', username: 'me', password: 'secret' };

  function tokenServer(request: IncomingMessage, response: ServerResponse): void {
    if (request.url?.startsWith('/token')) {
      response.writeHead(200).end(JSON.stringify({ token: `t${requests.length}` }));
    } else if (request.headers.authorization?.startsWith('Bearer t')) response.writeHead(404).end();
    else {
      const challenge = `Bearer realm="http://${address}/token",service="the registry",scope="repository:app:pull"`;
      response.writeHead(401, { 'www-authenticate': challenge }).end();
    }
  }

  it('gets a token with the password and sends that token only', async () => {
    handler = tokenServer;
    await expect(resolveApp(basic)).rejects.toMatchObject({ code: 'image-unknown' });
    const [first, token, second] = requests;
    expect(first?.headers.authorization).toBeUndefined();
    expect(token?.line).toBe('GET /token?service=the+registry&scope=repository%3Aapp%3Apull');
    expect(token?.headers.authorization).toBe(`Basic ${Buffer.from('me:secret').toString('base64')}`);
    expect(second?.headers.authorization).toBe('Bearer t2');
  });

  it('trades an identity token by POST', async () => {
    handler = tokenServer;
    await expect(resolveApp({ kind: 'identity', token: 'refresh' })).rejects.toMatchObject({
      code: 'image-unknown',
    });
    expect(requests[1]?.line).toBe('POST /token');
  });

  it('gets a new token when the old one is no longer taken', async () => {
    let expired = false;
    handler = (request, response) => {
      const old = request.headers.authorization === 'Bearer t2';
      if (old && expired)
        response.writeHead(401, { 'www-authenticate': `Bearer realm="http://${address}/token"` }).end();
      else tokenServer(request, response);
    };
    const registry = client(basic);
    const name = reference(`${address}/app:1`);
    await expect(registry.resolve(name, AMD64)).rejects.toMatchObject({ code: 'image-unknown' });
    expired = true;
    await expect(registry.resolve(name, AMD64)).rejects.toMatchObject({ code: 'image-unknown' });
    expect(requests.at(-1)?.headers.authorization).toBe('Bearer t5');
  });

  it('does not send the password to a token service elsewhere on plain HTTP', async () => {
    handler = (_request, response) => {
      response.writeHead(401, { 'www-authenticate': 'Bearer realm="ftp://evil.invalid/token"' }).end();
    };
    await expect(resolveApp(basic)).rejects.toMatchObject({ code: 'registry-denied' });
  });

  it('does not send the token to the host of a redirect', async () => {
    const other = createServer((request, response) => {
      requests.push({ line: 'elsewhere', headers: request.headers });
      response.writeHead(200, { 'content-length': BLOB.length }).end(BLOB);
    });
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
    try {
      const port = (other.address() as AddressInfo).port;
      handler = (request, response) => {
        if (request.headers.authorization === undefined || request.url?.startsWith('/token')) {
          tokenServer(request, response);
        } else response.writeHead(307, { location: `http://127.0.0.1:${port}/blob` }).end();
      };
      await client(basic).fetchBlobs(reference(`${address}/app:1`), [LAYER], { blobs: store.blobs });
      expect(await store.blobs.has(LAYER.digest)).toBe(true);
      expect(requests.at(-1)).toMatchObject({ line: 'elsewhere' });
      expect(requests.at(-1)?.headers.authorization).toBeUndefined();
    } finally {
      other.closeAllConnections();
      other.close();
    }
  });
});

describe('push', () => {
  const config = Buffer.from(
    JSON.stringify({
      os: 'linux',
      architecture: 'amd64',
      rootfs: { type: 'layers', diff_ids: [digestOf('x')] },
    }),
  );
  let opened = 0;
  const layer: Layer = {
    diffId: digestOf('x') as Layer['diffId'],
    descriptor: LAYER,
    open: async function* () {
      opened += 1;
      yield BLOB;
    },
  };
  const pushApp = () =>
    client().push(
      reference(`${address}/app:1`),
      { manifest: encodeManifest({ config, layers: [LAYER] }), config, layers: [layer] },
      {},
    );

  it('begins an upload again after a reset, with a session of its own', async () => {
    opened = 0;
    let resets = 0;
    handler = (request, response) => {
      if (request.method === 'HEAD') response.writeHead(404).end();
      else if (request.method === 'POST') {
        response.writeHead(202, { location: `/v2/app/blobs/uploads/${requests.length}?state=x` }).end();
      } else if (request.url?.includes(LAYER.digest.slice(7)) && resets < 2) {
        resets += 1;
        request.socket.resetAndDestroy();
      } else {
        request.resume();
        request.on('end', () => response.writeHead(201).end());
      }
    };
    await pushApp();
    expect(opened).toBe(3);
    expect(requests.some((request) => request.line.includes('?state=x&digest=sha256%3A'))).toBe(true);
  });

  it.each([
    [403, 'registry-denied'],
    [413, 'registry-protocol'],
    [503, 'registry-unreachable'],
  ])('fails clearly where uploads are answered with %i', async (status, code) => {
    handler = (request, response) => {
      request.resume();
      response
        .writeHead(request.method === 'HEAD' ? 404 : status)
        .end('{"errors":[{"message":"no \\u001b[31mway"}]}');
    };
    await expect(pushApp()).rejects.toMatchObject({ code, message: expect.not.stringContaining('\u001b') });
  });

  it('fails with the error of a layer that cannot be read', async () => {
    handler = (request, response) => {
      request.resume();
      if (request.method === 'HEAD') response.writeHead(404).end();
      else if (request.method === 'POST') response.writeHead(202, { location: '/up' }).end();
      else request.on('end', () => response.writeHead(201).end());
    };
    const broken: Layer = {
      ...layer,
      // biome-ignore lint/correctness/useYield: it fails before the first chunk
      open: async function* () {
        throw new Error('the disk is gone');
      },
    };
    const pushing = client().push(
      reference(`${address}/app:1`),
      { manifest: encodeManifest({ config, layers: [LAYER] }), config, layers: [broken] },
      {},
    );
    await expect(pushing).rejects.toThrow('the disk is gone');
  });
});
