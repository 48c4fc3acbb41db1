import { setTimeout as sleepFor } from 'node:timers/promises';
import { MachineError } from '../../core/index.ts';
import { isObject, textField } from '../json.ts';
import { authorize, parseChallenge, readSmall } from './auth.ts';
import type { Credentials } from './credentials.ts';
import type { Endpoint } from './endpoint.ts';
import {
  ConnectionError,
  connectionHint,
  type HttpRequest,
  type HttpResponse,
  TRUST_HINT,
  type Transport,
} from './transport.ts';

export interface ClientOptions {
  readonly transport: Transport;
  readonly credentials: (host: string) => Promise<Credentials | undefined>;
  readonly userAgent: string;
  /** Waits between attempts. */
  readonly sleep?: (ms: number, signal?: AbortSignal) => Promise<void>;
}

export interface Call extends Omit<HttpRequest, 'insecure'> {
  readonly endpoint: Endpoint;
  /** What the token must allow: `repository:NAME:pull,push`. */
  readonly scopes: readonly string[];
}

/** Sends requests to registries: with credentials, across redirects, again after failures that pass. */
export interface Client {
  /** @throws MachineError `registry-unreachable`, `registry-denied`; any other status is for the caller to judge. */
  send(call: Call): Promise<HttpResponse>;
  /** As `send`, for answers that must be small: reads the body, and asks again where it is cut. */
  read(call: Call): Promise<Answer>;
  /** As `send`, once: no retries. @throws ConnectionError besides. */
  sendOnce(call: Call): Promise<HttpResponse>;
  /** Waits before attempt `attempt` (from 1); `response` may ask for longer. False: there were enough. */
  pause(
    attempt: number,
    response: HttpResponse | undefined,
    signal: AbortSignal | undefined,
  ): Promise<boolean>;
}

export interface Answer {
  readonly response: HttpResponse;
  readonly bytes: Uint8Array;
}

const MAX_REDIRECTS = 10;
const MAX_ATTEMPTS = 5;
const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 30_000;
const PASSING = new Set([408, 429, 500, 502, 503, 504]);

export function isPassing(status: number): boolean {
  return PASSING.has(status);
}

export function createClient(options: ClientOptions): Client {
  const { transport } = options;
  const sleep =
    options.sleep ?? ((ms, signal) => sleepFor(ms, undefined, signal === undefined ? {} : { signal }));
  /** `Authorization` by host and scopes; dropped when a server no longer takes one. */
  const headers = new Map<string, string>();

  async function sendOnce(call: Call): Promise<HttpResponse> {
    const key = JSON.stringify([call.endpoint.base, ...call.scopes]);
    const known = headers.get(key);
    const first = await follow(call, known, transport, options.userAgent);
    if (first.status !== 401) return first;
    const challenge = parseChallenge(first.header('www-authenticate') ?? '');
    await discard(first);
    headers.delete(key);
    const header = await authorize(
      {
        challenge,
        scopes: [...new Set([...call.scopes, ...(challenge.parameters['scope']?.split(' ') ?? [])])],
        credentials: await options.credentials(call.endpoint.host),
        url: call.url,
        host: call.endpoint.host,
        insecure: call.endpoint.insecure,
        ...(call.signal === undefined ? {} : { signal: call.signal }),
      },
      transport,
    );
    if (header === undefined) throw denied(call, first.status);
    headers.set(key, header);
    // A body that was a stream is used up: the caller begins the upload again, now with a header that is known.
    if (call.body !== undefined && !(call.body instanceof Uint8Array)) return first;
    const second = await follow(call, header, transport, options.userAgent);
    if (second.status !== 401) return second;
    await discard(second);
    headers.delete(key);
    throw denied(call, second.status);
  }

  async function pause(
    attempt: number,
    response: HttpResponse | undefined,
    signal: AbortSignal | undefined,
  ): Promise<boolean> {
    if (attempt >= MAX_ATTEMPTS) return false;
    const wanted = response === undefined ? 0 : retryAfterMs(response);
    await sleep(Math.min(LONGEST_PAUSE_MS, Math.max(FIRST_PAUSE_MS * 2 ** (attempt - 1), wanted)), signal);
    return true;
  }

  async function repeat<T>(call: Call, use: (response: HttpResponse) => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt += 1) {
      let failure: ConnectionError | undefined;
      let response: HttpResponse | undefined;
      try {
        response = await sendOnce(call);
        if (!isPassing(response.status)) return await use(response);
      } catch (error) {
        if (!(error instanceof ConnectionError)) throw error;
        failure = error;
      }
      // A mirror that cannot be reached is not worth waiting for: the registry behind it is asked next.
      const next = failure !== undefined && call.endpoint.isMirror;
      if (!next && (await pause(attempt, response, call.signal))) {
        if (response !== undefined && failure === undefined) await discard(response);
        continue;
      }
      if (response !== undefined && failure === undefined) return use(response);
      throw unreachableRegistry(call.endpoint, failure);
    }
  }

  return {
    send: (call) => repeat(call, async (response) => response),
    read: (call) => repeat(call, async (response) => ({ response, bytes: await readSmall(response.body) })),
    sendOnce,
    pause,
  };
}

/** Follows redirects; another host gets no credentials, and HTTPS never leads to HTTP. */
async function follow(
  call: Call,
  authorization: string | undefined,
  transport: Transport,
  userAgent: string,
): Promise<HttpResponse> {
  let url = call.url;
  for (let hop = 0; hop <= MAX_REDIRECTS; hop += 1) {
    const sameHost = url.host === call.url.host && url.protocol === call.url.protocol;
    const auth = authorization !== undefined && sameHost ? { authorization } : {};
    const response = await transport({
      method: call.method,
      url,
      headers: { 'user-agent': userAgent, ...call.headers, ...auth },
      insecure: call.endpoint.insecure,
      ...(call.body === undefined ? {} : { body: call.body }),
      ...(call.signal === undefined ? {} : { signal: call.signal }),
    });
    const location = response.header('location');
    if (![301, 302, 303, 307, 308].includes(response.status) || location === undefined) return response;
    await discard(response);
    const next = URL.parse(location, url.href);
    const allowed =
      next !== null &&
      (next.protocol === 'https:' || (next.protocol === 'http:' && url.protocol === 'http:'));
    if (!allowed || (call.body !== undefined && !(call.body instanceof Uint8Array))) {
      throw new MachineError(
        'registry-protocol',
        `${call.endpoint.host} redirects to where varve does not follow`,
        {
          hint: 'redirects from HTTPS to HTTP, and of uploads, are not followed',
        },
      );
    }
    url = next;
  }
  throw new MachineError(
    'registry-protocol',
    `${call.endpoint.host} redirects more than ${MAX_REDIRECTS} times`,
  );
}

/** RFC 9110, section 10.2.3: seconds, or a date, counted from the server's own `Date`. */
function retryAfterMs(response: HttpResponse): number {
  const value = response.header('retry-after') ?? '';
  if (/^[0-9]+$/.test(value)) return Number(value) * 1000;
  const wait = Date.parse(value) - Date.parse(response.header('date') ?? '');
  return Number.isFinite(wait) && wait > 0 ? wait : 0;
}

/** Reads what is left of a response (up to a bound), so that its connection can be used again; a lost one does not matter. */
export async function discard(response: HttpResponse): Promise<void> {
  let size = 0;
  try {
    for await (const part of response.body) {
      size += part.byteLength;
      if (size > 64 * 1024) break;
    }
  } catch (error) {
    if (!(error instanceof ConnectionError)) throw error;
  }
}

function denied({ endpoint }: Call, status: number): MachineError {
  return new MachineError('registry-denied', `${endpoint.host} denies access (${status})`, {
    hint: `the repository does not exist, or you must log in with \`varve login ${endpoint.host}\``,
  });
}

export function unreachableRegistry(endpoint: Endpoint, cause: unknown): MachineError {
  const reason = cause instanceof Error ? cause.message : 'no answer';
  return new MachineError('registry-unreachable', `cannot reach the registry ${endpoint.host}: ${reason}`, {
    hint:
      cause instanceof ConnectionError && connectionHint(cause) === TRUST_HINT
        ? TRUST_HINT
        : 'check the network, the name, and the mirrors and insecure registries in config.toml',
    cause,
  });
}

/** What an answer that is no success means, in the registry's own words where it has some. @throws ConnectionError */
export async function failureOf(
  response: HttpResponse,
  endpoint: Endpoint,
  doing: string,
): Promise<MachineError> {
  return answeredFailure({ response, bytes: await readSmall(response.body) }, endpoint, doing);
}

/** {@link failureOf} for a body that was read. */
export function answeredFailure(
  { response, bytes }: Answer,
  endpoint: Endpoint,
  doing: string,
): MachineError {
  const { status } = response;
  const said = errorText(bytes);
  const message = `${doing}: ${endpoint.host} answered ${status}${said === '' ? '' : ` (${said})`}`;
  if (status === 401 || status === 403) {
    const hint = `the repository does not exist, or you must log in with \`varve login ${endpoint.host}\``;
    return new MachineError('registry-denied', message, { hint });
  }
  if (status === 404)
    return new MachineError('image-unknown', message, { hint: 'check the name and the tag' });
  if (isPassing(status)) {
    return new MachineError('registry-unreachable', message, { hint: 'try again later' });
  }
  return new MachineError('registry-protocol', message);
}

/** distribution-spec, "Error Codes": `{"errors": [{"code", "message"}]}`. */
function errorText(body: Uint8Array): string {
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(body).toString('utf8'));
  } catch {
    return '';
  }
  const errors = isObject(value) && Array.isArray(value['errors']) ? value['errors'] : [];
  return errors
    .filter(isObject)
    .map((error) => textField(error, 'message') || textField(error, 'code') || '')
    .filter((text) => text !== '')
    .join('; ')
    .replace(/[\x00-\x1f\x7f]/g, ' ')
    .slice(0, 300);
}
