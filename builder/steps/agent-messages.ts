import { createConnection, type Socket } from 'node:net';
import type { HostPath } from '../../core/index.ts';

/** Types of messages (draft-miller-ssh-agent, "Protocol Numbers"). */
const FAILURE = 5;
const REQUEST_IDENTITIES = 11;
const SIGN_REQUEST = 13;
const EXTENSION = 27;

/** Binds a connection to the host that a key is used for; keys that are for some hosts only need it (OpenSSH, PROTOCOL.agent). */
const SESSION_BIND = 'session-bind@openssh.com';

const LENGTH_BYTES = 4;
/** OpenSSH's own limit. */
const MOST_BYTES = 256 * 1024;

/**
 * Answers a client in a sandbox in the name of the agent: it may list keys and have something signed. All else fails without the
 * agent's hearing of it, so that no step adds, removes or locks keys of the person who builds. Ends with either side.
 */
export async function lendAgent(client: Socket, agent: HostPath): Promise<void> {
  const upstream = createConnection({ path: agent });
  // Either side may go at any time: the other one then sees an end.
  upstream.on('error', () => client.destroy());
  client.on('error', () => upstream.destroy());
  client.on('close', () => upstream.destroy());
  const answers = messages(upstream);
  try {
    for await (const request of messages(client)) {
      const answer = isLent(request) ? await ask(upstream, request, answers) : failure();
      if (answer === undefined) return;
      await send(client, answer);
    }
  } catch {
    // A connection that broke, or what is no message of the protocol.
  } finally {
    client.destroy();
    upstream.destroy();
  }
}

async function ask(
  upstream: Socket,
  request: Buffer,
  answers: AsyncGenerator<Buffer>,
): Promise<Buffer | undefined> {
  await send(upstream, request);
  const answer = await answers.next();
  return answer.done === true ? undefined : answer.value;
}

function isLent(request: Buffer): boolean {
  const type = request[LENGTH_BYTES];
  if (type === REQUEST_IDENTITIES || type === SIGN_REQUEST) return true;
  const name = request.subarray(LENGTH_BYTES + 1);
  if (type !== EXTENSION || name.length < LENGTH_BYTES) return false;
  return name.toString('latin1', LENGTH_BYTES, LENGTH_BYTES + name.readUInt32BE()) === SESSION_BIND;
}

function failure(): Buffer {
  return Buffer.from([0, 0, 0, 1, FAILURE]);
}

/** Settles when the kernel has the bytes: what follows may be the end of the socket. */
function send(socket: Socket, bytes: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.write(bytes, (error) => (error ? reject(error) : resolve()));
  });
}

/** Whole messages, their length before them. @throws Error for one that is too long. */
async function* messages(socket: Socket): AsyncGenerator<Buffer> {
  let pending: Buffer = Buffer.alloc(0);
  for await (const chunk of socket) {
    pending = pending.length === 0 ? chunk : Buffer.concat([pending, chunk]);
    for (;;) {
      if (pending.length < LENGTH_BYTES) break;
      const end = LENGTH_BYTES + pending.readUInt32BE();
      if (end > LENGTH_BYTES + MOST_BYTES) throw new Error('a message of an agent is too long');
      if (pending.length < end) break;
      yield pending.subarray(0, end);
      pending = pending.subarray(end);
    }
  }
}
