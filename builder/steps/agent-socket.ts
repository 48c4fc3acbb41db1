import { chmod, chown, mkdtemp, open, rm } from 'node:fs/promises';
import { createConnection, createServer, type Server, type Socket } from 'node:net';
import { type HostPath, joinHost } from '../../core/index.ts';
import type { Ownership } from '../graph.ts';

/** A socket for one step that leads to an agent; disposing of it ends all connections. */
export interface AgentSocket extends AsyncDisposable {
  readonly path: HostPath;
}

/**
 * Listens on a socket of its own, with the owner and mode that the step asked for, and passes bytes between it and the agent: the
 * agent's own socket keeps its owner, and is never seen in a sandbox.
 */
export async function forwardAgent(
  agent: HostPath,
  temporary: HostPath,
  { mode, uid, gid }: Ownership,
): Promise<AgentSocket> {
  const folder = (await mkdtemp(joinHost(temporary, 'agent-'))) as HostPath;
  // Open as long as the server is: that removes the socket by this name when it ends.
  const handle = await open(folder);
  const connections = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true }, (client) => {
    const upstream = createConnection({ path: agent, allowHalfOpen: true });
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      connections.add(from);
      from.on('error', () => to.destroy());
      from.on('close', () => {
        connections.delete(from);
        // What was passed on last must still arrive.
        to.end();
      });
      from.pipe(to);
    }
  });
  const close = async () => {
    const closed = new Promise((resolve) => server.close(resolve));
    for (const socket of connections) socket.destroy();
    await closed;
    await handle.close();
    await rm(folder, { recursive: true, force: true });
  };
  try {
    await listen(server, handle.fd);
    const path = joinHost(folder, 'socket');
    await chown(path, uid, gid);
    await chmod(path, mode);
    return { path, [Symbol.asyncDispose]: close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** A socket's name may have 107 bytes only (unix(7)); by its folder's descriptor it has few, however deep the folder lies. */
async function listen(server: Server, folder: number): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once('error', reject);
  server.listen(`/proc/self/fd/${folder}/socket`, resolve);
  await promise;
  server.off('error', reject);
}
