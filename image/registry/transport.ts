import type { AgentOptions, IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import { pipeline, Readable } from 'node:stream';
import type { SecureContext } from 'node:tls';

export interface HttpRequest {
  readonly method: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH';
  readonly url: URL;
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  /** A stream needs a `content-length` header. */
  readonly body?: Uint8Array | AsyncIterable<Uint8Array>;
  /** Take certificates that cannot be verified. */
  readonly insecure: boolean;
  readonly signal?: AbortSignal;
}

export interface HttpResponse {
  readonly status: number;
  /** The first value of a header; names in lower case. */
  header(name: string): string | undefined;
  /** Fails with {@link ConnectionError} where the connection is lost before the end of the body. */
  readonly body: AsyncIterable<Uint8Array>;
}

/** One exchange, without redirects, authentication or retries. @throws ConnectionError */
export type Transport = (request: HttpRequest) => Promise<HttpResponse>;

/** The server could not be reached, or went away, or was silent for too long: trying again may help. */
export class ConnectionError extends Error {
  override readonly name = 'ConnectionError';
}

/** What OpenSSL calls a certificate that no trusted authority stands for. */
const UNTRUSTED = new Set([
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
]);

/** What to do about a connection that failed. */
export function connectionHint({ cause }: ConnectionError): string {
  const code = cause instanceof Error && 'code' in cause ? String(cause.code) : '';
  return UNTRUSTED.has(code) ? TRUST_HINT : 'Check the address and the network.';
}

/** What to do where a server's certificate is not trusted. */
export const TRUST_HINT =
  "Add the authority's certificate to those of this machine, or name its PEM file in SSL_CERT_FILE.";

export interface TransportOptions {
  /** A connection without a byte in either direction for this long is dead. */
  readonly stallMs?: number;
  /** Longest time until a new connection stands, with TLS. */
  readonly connectMs?: number;
  /** HTTP_PROXY, HTTPS_PROXY and NO_PROXY, in upper or lower case. */
  readonly proxyEnv?: Readonly<Record<string, string | undefined>>;
  /** Certificates of authorities, PEM, that are trusted beside Node's own. Asked for when the first secure connection is made. */
  readonly roots?: () => readonly string[];
}

const DEFAULT_STALL_MS = 120_000;
const DEFAULT_CONNECT_MS = 15_000;

/** Over Node's own HTTP client: unlike `fetch` it can take single hosts' unverified certificates and tell a stall. */
export function createTransport(settings: TransportOptions = {}): Transport {
  const { stallMs = DEFAULT_STALL_MS, connectMs = DEFAULT_CONNECT_MS, proxyEnv, roots } = settings;
  const options = { keepAlive: true, ...(proxyEnv === undefined ? {} : { proxyEnv: { ...proxyEnv } }) };
  let clients: ReturnType<typeof createClients> | undefined;

  return (request) =>
    new Promise((resolve, reject) => {
      const { url, method, headers, body, insecure, signal } = request;
      const isPlain = url.protocol === 'http:';
      clients ??= createClients(options);
      const { agent, send } = isPlain ? clients.plain : insecure ? clients.unverified : clients.secure(roots);
      const outgoing = send(url, { method, headers, agent, ...(signal === undefined ? {} : { signal }) });
      outgoing.setTimeout(stallMs, () => {
        outgoing.destroy(new ConnectionError(`${url.host} was silent for ${stallMs / 1000} s`));
      });
      outgoing.on('socket', (socket) =>
        limitConnecting(socket, isPlain ? 'connect' : 'secureConnect', connectMs),
      );
      outgoing.on('error', (error) => reject(connectionError(error, url, signal)));
      outgoing.on('response', (incoming) => resolve(responseOf(incoming, url, signal)));
      if (body === undefined) outgoing.end();
      else if (body instanceof Uint8Array) outgoing.end(body);
      else {
        pipeline(Readable.from(body, { objectMode: true }), outgoing, (error) => {
          if (error) reject(bodyError(error, url, signal));
        });
      }
    });
}

/** Node's HTTP modules take longer to load than most builds that need no registry. */
function createClients(options: AgentOptions) {
  const http = process.getBuiltinModule('node:http');
  const https = process.getBuiltinModule('node:https');
  const unverified = new https.Agent({ ...options, rejectUnauthorized: false });
  let verified: InstanceType<typeof https.Agent> | undefined;
  return {
    plain: { agent: new http.Agent(options), send: http.request },
    secure: (roots: TransportOptions['roots']) => {
      verified ??= new https.Agent({ ...options, ...(roots === undefined ? {} : trusting(roots())) });
      return { agent: verified, send: https.request };
    },
    unverified: { agent: unverified, send: https.request },
  };
}

/** One context for all connections: hundreds of certificates are read only once. */
function trusting(roots: readonly string[]): { readonly secureContext: SecureContext } {
  const { createSecureContext, getCACertificates } = process.getBuiltinModule('node:tls');
  return { secureContext: createSecureContext({ ca: [...getCACertificates('default'), ...roots] }) };
}

function limitConnecting(socket: Socket, ready: 'connect' | 'secureConnect', ms: number): void {
  if (!socket.connecting) return;
  const timer = setTimeout(
    () => socket.destroy(new ConnectionError(`no connection within ${ms / 1000} s`)),
    ms,
  );
  socket.once(ready, () => clearTimeout(timer));
  socket.once('close', () => clearTimeout(timer));
}

function responseOf(incoming: IncomingMessage, url: URL, signal: AbortSignal | undefined): HttpResponse {
  async function* body(): AsyncGenerator<Uint8Array> {
    try {
      for await (const chunk of incoming as AsyncIterable<Uint8Array>) yield chunk;
    } catch (error) {
      throw connectionError(error, url, signal);
    }
  }
  return {
    status: incoming.statusCode ?? 0,
    header: (name) => {
      const value = incoming.headers[name];
      return Array.isArray(value) ? value[0] : value;
    },
    body: { [Symbol.asyncIterator]: body },
  };
}

function connectionError(error: unknown, url: URL, signal: AbortSignal | undefined): unknown {
  if (signal?.aborted === true) return signal.reason;
  if (error instanceof ConnectionError) return error;
  const said = error instanceof Error ? error.message || error.name : String(error);
  // Behind this word Node gives advice on its own flags.
  const reason = said.replace(/; if the root CA is .*$/s, '');
  return new ConnectionError(`${url.host}: ${reason}`, { cause: error });
}

/** A body's own failure (a layer that cannot be read) is no fault of the connection and stays what it is. */
function bodyError(error: Error, url: URL, signal: AbortSignal | undefined): unknown {
  const ofSocket =
    'code' in error && typeof error.code === 'string' && /^E[A-Z]+$|^ERR_STREAM/.test(error.code);
  return ofSocket ? connectionError(error, url, signal) : error;
}
