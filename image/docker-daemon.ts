import type { IncomingMessage, RequestOptions } from 'node:http';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { MachineError } from '../core/index.ts';
import type { DockerDaemon, DockerDaemons } from './contract.ts';

/** How long a daemon has to say that it is there. */
const PING_MS = 2000;
const DEFAULT_HOST = 'unix:///var/run/docker.sock';
/** Most of an answer that is read: it ends up in a message. */
const MAX_ANSWER = 64 * 1024;

/** Finds the daemon that the `docker` command would talk to by `DOCKER_HOST` (Docker Engine API, `/_ping` and `/images/load`). */
export function createDockerDaemons(options: { readonly dockerHost: string | undefined }): DockerDaemons {
  const { dockerHost } = options;
  const name = dockerHost === undefined || dockerHost === '' ? DEFAULT_HOST : dockerHost;
  return {
    async find(signal) {
      const place = placeOf(name);
      if (place === undefined || !(await answers(place, signal))) return undefined;
      return daemonAt(name, place);
    },
  };
}

type Place = Pick<RequestOptions, 'socketPath' | 'host' | 'port'>;

/** Where the daemon listens; undefined for ways that are not spoken here (`ssh://`, `npipe://`). */
function placeOf(name: string): Place | undefined {
  if (name.startsWith('unix://')) return { socketPath: name.slice('unix://'.length) };
  const url = URL.parse(name);
  if (url === null || (url.protocol !== 'tcp:' && url.protocol !== 'http:')) return undefined;
  return { host: url.hostname.replace(/^\[|\]$/g, ''), port: url.port === '' ? 2375 : Number(url.port) };
}

async function answers(place: Place, signal: AbortSignal): Promise<boolean> {
  const soon = AbortSignal.any([signal, AbortSignal.timeout(PING_MS)]);
  try {
    const response = await send(place, { method: 'GET', path: '/_ping', signal: soon });
    return response.status === 200;
  } catch {
    signal.throwIfAborted();
    return false;
  }
}

function daemonAt(name: string, place: Place): DockerDaemon {
  return {
    name,
    async load(archive, signal) {
      const path = '/images/load?quiet=1';
      const response = await send(place, { method: 'POST', path, signal, body: archive }).catch(
        (cause: unknown) => {
          signal.throwIfAborted();
          throw refused(name, cause instanceof Error ? cause.message : String(cause), cause);
        },
      );
      // A daemon that has begun to answer says what went wrong in its stream.
      const error = errorIn(response.text);
      if (response.status !== 200 || error !== undefined)
        throw refused(name, error ?? `it answered ${response.status}`);
    },
  };
}

interface Call {
  readonly method: string;
  readonly path: string;
  readonly signal: AbortSignal;
  readonly body?: AsyncIterable<Uint8Array>;
}

async function send(
  place: Place,
  { method, path, signal, body }: Call,
): Promise<{ readonly status: number; readonly text: string }> {
  const headers = { host: 'docker', ...(body === undefined ? {} : { 'content-type': 'application/x-tar' }) };
  // Most builds talk to no daemon, and the module takes as long to load as a small build.
  const { request } = await import('node:http');
  const call = request({ ...place, method, path, headers, signal });
  const answered = new Promise<IncomingMessage>((resolve, reject) => {
    call.on('response', resolve);
    call.on('error', reject);
  });
  const sent =
    body === undefined ? void call.end() : pipeline(Readable.from(body, { objectMode: true }), call);
  const response = await Promise.race([answered, Promise.resolve(sent).then(() => answered)]);
  let text = '';
  for await (const chunk of response.setEncoding('utf8') as AsyncIterable<string>)
    if (text.length < MAX_ANSWER) text += chunk;
  await sent;
  return { status: response.statusCode ?? 0, text };
}

/** The last `error` of a stream of JSON messages, or the `message` of a refusal. */
function errorIn(text: string): string | undefined {
  for (const line of text.split('\n').reverse()) {
    const match = /"(?:error|message)":\s*("(?:[^"\\]|\\.)*")/.exec(line);
    if (match?.[1] !== undefined) return String(JSON.parse(match[1]));
  }
  return undefined;
}

function refused(name: string, why: string, cause?: unknown): MachineError {
  return new MachineError('docker-load', `Docker at ${name} did not take the image: ${why}`, {
    hint: 'The image is in the local store. Look at the daemon, or build without --load.',
    ...(cause === undefined ? {} : { cause }),
  });
}
