import { MachineError } from '../../core/index.ts';
import { isObject, MAX_JSON_BYTES, parseJson, textField } from '../json.ts';
import type { Credentials } from './credentials.ts';
import { isLoopback } from './endpoint.ts';
import { ConnectionError, type HttpRequest, type HttpResponse } from './transport.ts';

/** A `WWW-Authenticate` header (RFC 9110, section 11.6.1): the scheme in lower case and its parameters. */
export interface Challenge {
  readonly scheme: string;
  readonly parameters: Readonly<Record<string, string>>;
}

const PARAMETER = /([a-z_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))/gi;

export function parseChallenge(header: string): Challenge {
  const scheme = /^\s*([A-Za-z]+)/.exec(header)?.[1]?.toLowerCase() ?? '';
  const parameters: Record<string, string> = {};
  for (const [, name = '', quoted, plain] of header.matchAll(PARAMETER)) {
    parameters[name.toLowerCase()] = quoted?.replace(/\\(.)/g, '$1') ?? plain ?? '';
  }
  return { scheme, parameters };
}

export interface TokenRequest {
  readonly challenge: Challenge;
  readonly scopes: readonly string[];
  readonly credentials: Credentials | undefined;
  /** What the challenge answered; a token service on plain HTTP is only trusted from plain HTTP. */
  readonly url: URL;
  /** What the server is called in messages. */
  readonly host: string;
  readonly insecure: boolean;
  readonly signal?: AbortSignal;
}

/** The `Authorization` header that answers a challenge; undefined where there is none to give. */
export async function authorize(
  request: TokenRequest,
  send: (request: HttpRequest) => Promise<HttpResponse>,
): Promise<string | undefined> {
  const { challenge, credentials } = request;
  if (credentials?.kind === 'bearer') return `Bearer ${credentials.token}`;
  if (challenge.scheme === 'basic') return basicHeader(credentials);
  if (challenge.scheme !== 'bearer') {
    throw new MachineError(
      'registry-denied',
      `${request.host} asks for ${challenge.scheme || 'an unknown'} authentication`,
    );
  }
  const response = await send(tokenRequest(request));
  const body = await readSmall(response.body);
  if (response.status === 429 || response.status >= 500) {
    throw new ConnectionError(`the token service of ${request.host} answered ${response.status}`);
  }
  if (response.status !== 200) {
    throw new MachineError(
      'registry-denied',
      `${request.host} refused the credentials (${response.status})`,
      {
        hint: `log in with \`varve login ${request.host}\``,
      },
    );
  }
  const answer = parseJson(body, `the token of ${request.host}`);
  const token = isObject(answer)
    ? (textField(answer, 'token') ?? textField(answer, 'access_token'))
    : undefined;
  if (token === undefined || /[\r\n]/.test(token)) {
    throw new MachineError('registry-denied', `${request.host} gave no token`);
  }
  return `Bearer ${token}`;
}

export function basicHeader(credentials: Credentials | undefined): string | undefined {
  if (credentials?.kind !== 'basic') return undefined;
  return `Basic ${Buffer.from(`${credentials.username}:${credentials.password}`).toString('base64')}`;
}

/** Distribution's token specification: GET with basic authentication; POST with a refresh token (OAuth 2.0). */
function tokenRequest(request: TokenRequest): HttpRequest {
  const { challenge, scopes, credentials, insecure, signal } = request;
  const url = realmOf(request);
  const common = { insecure, ...(signal === undefined ? {} : { signal }) };
  const service = challenge.parameters['service'];
  if (credentials?.kind === 'identity') {
    const form = new URLSearchParams({
      grant_type: 'refresh_token',
      refresh_token: credentials.token,
      client_id: 'varve',
    });
    if (service !== undefined) form.set('service', service);
    if (scopes.length > 0) form.set('scope', scopes.join(' '));
    const body = Buffer.from(form.toString());
    const headers = {
      'content-type': 'application/x-www-form-urlencoded',
      'content-length': String(body.length),
    };
    return { ...common, method: 'POST', url, headers, body };
  }
  if (service !== undefined) url.searchParams.set('service', service);
  for (const scope of scopes) url.searchParams.append('scope', scope);
  const header = basicHeader(credentials);
  return { ...common, method: 'GET', url, headers: header === undefined ? {} : { authorization: header } };
}

function realmOf({ challenge, url, host }: TokenRequest): URL {
  const realm = URL.parse(challenge.parameters['realm'] ?? '');
  const fits =
    realm !== null &&
    (realm.protocol === 'https:' ||
      (realm.protocol === 'http:' && (url.protocol === 'http:' || isLoopback(realm.host))));
  if (fits) return realm;
  throw new MachineError('registry-denied', `${host} names a token service that is not on HTTPS`, {
    hint: 'a password would travel in the clear; the registry must be set up differently',
  });
}

/** A body that must be small, such as an error or a token. */
export async function readSmall(body: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let size = 0;
  for await (const part of body) {
    size += part.byteLength;
    if (size > MAX_JSON_BYTES) {
      throw new MachineError(
        'registry-protocol',
        `the registry answered with more than ${MAX_JSON_BYTES} bytes`,
      );
    }
    parts.push(part);
  }
  return Buffer.concat(parts);
}
