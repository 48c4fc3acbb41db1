import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Digest, digestOf } from '../../core/index.ts';
import {
  type Route,
  serveWeb,
  type TemporaryFolder,
  temporaryFolder,
  type Web,
} from '../../fixtures/index.ts';
import { machineErrorOf } from '../../fixtures/machine-error.ts';
import type { FetchedFile, Sources } from './contract.ts';
import { sourcesIn } from './testing.ts';

const OPTIONS = { signal: new AbortController().signal };
const MODIFIED = 'Mon, 01 Jan 2024 00:00:00 GMT';

let root: TemporaryFolder;
let web: Web;
let sources: Sources;

beforeEach(async () => {
  root = await temporaryFolder('varve-http');
  web = await serveWeb();
  sources = sourcesIn(root.path, { maxBytes: 1000 });
});

afterEach(async () => {
  await web[Symbol.asyncDispose]();
  await root[Symbol.asyncDispose]();
});

/** Answers with `text`, and 304 where the request has the tag. */
function tagged(text: string, etag: string): Route {
  return (request, response) => {
    const same = request.headers['if-none-match'] === etag;
    response.writeHead(same ? 304 : 200, { etag, 'last-modified': MODIFIED }).end(same ? undefined : text);
  };
}

const fetched = (path = '/f', checksum?: Digest): Promise<FetchedFile> =>
  sources.fetchFile(`${web.url}${path}`, { ...OPTIONS, ...(checksum === undefined ? {} : { checksum }) });
const text = ({ path }: FetchedFile): string => readFileSync(path, 'utf8');

describe('fetchFile', () => {
  test('gives bytes, digest and Last-Modified', async () => {
    web.routes.set('/f', tagged('one', '"1"'));
    const file = await fetched();
    expect(text(file)).toBe('one');
    expect(file).toMatchObject({ digest: digestOf('one'), size: 3, mtime: Date.parse(MODIFIED) / 1000 });
    web.routes.set('/g', (_request, response) => response.end('g'));
    expect((await fetched('/g')).mtime).toBe(0);
  });

  test('asks again with the tag, and takes the kept bytes where they are still the same', async () => {
    const statuses: number[] = [];
    const counted =
      (route: Route): Route =>
      (request, response) => {
        route(request, response);
        statuses.push(response.statusCode);
      };
    web.routes.set('/f', counted(tagged('one', '"1"')));
    await fetched();
    expect(text(await fetched())).toBe('one');
    web.routes.set('/f', counted(tagged('two', '"2"')));
    expect(text(await fetched())).toBe('two');
    expect(statuses).toEqual([200, 304, 200]);
  });

  test('trusts no weak tag, and fetches anew what was pruned', async () => {
    const tags: (string | undefined)[] = [];
    const route =
      (etag: string): Route =>
      (request, response) => {
        tags.push(request.headers['if-none-match']);
        response.writeHead(200, { etag }).end('x');
      };
    web.routes.set('/f', route('W/"1"'));
    await fetched();
    await fetched();
    web.routes.set('/f', route('"2"'));
    await fetched();
    rmSync(join(root.path, 'blobs'), { recursive: true });
    sources = sourcesIn(root.path);
    expect(text(await fetched())).toBe('x');
    expect(tags).toEqual([undefined, undefined, undefined, undefined]);
  });

  test('takes a tag for the address alone that gave it, and no 304 that was not asked for', async () => {
    let end = '/a';
    web.routes.set('/f', (_request, response) => response.writeHead(302, { location: end }).end());
    web.routes.set('/a', tagged('of a', '"1"'));
    web.routes.set('/b', tagged('of b', '"1"'));
    await fetched();
    expect(text(await fetched())).toBe('of a');
    end = '/b';
    expect(text(await fetched())).toBe('of b');
    web.routes.set('/f', (_request, response) => response.writeHead(304).end());
    expect((await machineErrorOf(fetched())).message).toMatch(/invalid response status 304/);
  });

  test('asks nobody for bytes whose digest is known, and refuses other ones', async () => {
    web.routes.set('/f', (_request, response) => response.end('one'));
    await fetched();
    web.asked.length = 0;
    expect(text(await fetched('/f', digestOf('one')))).toBe('one');
    expect(web.asked).toEqual([]);
    const error = await machineErrorOf(fetched('/f', digestOf('two')));
    expect(error.code).toBe('http-checksum-mismatch');
    expect(error.message).toMatch(`${digestOf('one')} (expected: ${digestOf('two')})`);
  });

  test('undoes the compression of the transfer, not that of the file', async () => {
    web.routes.set('/f', (_request, response) =>
      response.writeHead(200, { 'content-encoding': 'gzip' }).end(gzipSync('plain')),
    );
    expect(text(await fetched())).toBe('plain');
    web.routes.set('/f.gz', (_request, response) => response.end(gzipSync('plain')));
    expect((await fetched('/f.gz')).digest).toBe(digestOf(gzipSync('plain')));
  });

  test('follows redirects, ten at most, with credentials for the one host that they are for', async () => {
    await using other = await serveWeb();
    const seen: (string | undefined)[] = [];
    other.routes.set('/end', (request, response) => {
      seen.push(request.headers.authorization);
      response.end('there');
    });
    web.routes.set('/f', (request, response) => {
      seen.push(request.headers.authorization);
      response.writeHead(302, { location: `${other.url}/end` }).end();
    });
    const url = `${web.url.replace('//', '//user:p%40ss@')}/f`;
    expect(text(await sources.fetchFile(url, OPTIONS))).toBe('there');
    expect(seen).toEqual([`Basic ${Buffer.from('user:p@ss').toString('base64')}`, undefined]);
    web.routes.set('/loop', (_request, response) => response.writeHead(302, { location: '/loop' }).end());
    expect((await machineErrorOf(fetched('/loop'))).message).toMatch(/redirects more than 10 times/);
    expect(web.asked.filter((line) => line === 'GET /loop')).toHaveLength(11);
  });

  test.each([
    [{ location: 'file:///etc/passwd' }, /which is no address/],
    [{}, /redirects to ""/],
  ])('refuses a redirect with %j', async (headers, message) => {
    web.routes.set('/f', (_request, response) => response.writeHead(301, headers).end());
    expect(await machineErrorOf(fetched())).toMatchObject({ code: 'http-refused' });
    expect((await machineErrorOf(fetched())).message).toMatch(message);
  });

  test.each([
    ['a status', '/none', 'http-refused', /invalid response status 404/],
    ['a stated length', '/stated', 'http-too-large', /more than 1000 bytes/],
    ['too many bytes', '/long', 'http-too-large', /more than 1000 bytes/],
    ['a bomb', '/bomb', 'http-too-large', /more than 1000 bytes/],
    ['a cut', '/cut', 'http-unreachable', /cannot fetch/],
  ])('refuses %s and keeps nothing of it', async (_what, path, code, message) => {
    web.routes.set('/stated', (_request, response) =>
      response.writeHead(200, { 'content-length': 5000 }).end(Buffer.alloc(5000)),
    );
    web.routes.set('/long', (_request, response) => response.end(Buffer.alloc(5000)));
    web.routes.set('/bomb', (_request, response) =>
      response.writeHead(200, { 'content-encoding': 'gzip' }).end(gzipSync(Buffer.alloc(50_000))),
    );
    web.routes.set('/cut', (_request, response) => {
      response.writeHead(200, { 'content-length': 100 });
      response.write('half', () => response.destroy());
    });
    const error = await machineErrorOf(fetched(path));
    expect(error.code).toBe(code);
    expect(error.message).toMatch(message);
    web.routes.set(path, (_request, response) => response.end('well'));
    expect(text(await fetched(path))).toBe('well');
  });

  test('says which address cannot be reached, without its password', async () => {
    const error = await machineErrorOf(sources.fetchFile('http://u:secret@127.0.0.1:1/f', OPTIONS));
    expect(error).toMatchObject({ code: 'http-unreachable' });
    expect(error.message).toMatch(/cannot fetch http:\/\/127\.0\.0\.1:1\/f/);
    expect(error.message).not.toMatch(/secret/);
  });
});
