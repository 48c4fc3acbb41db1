import { chmod, chown, mkdtemp, open, rm } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { type HostPath, joinHost, ownerFailure } from '../../core/index.ts';
import type { Ownership } from '../graph.ts';
import { lendAgent } from './agent-messages.ts';

/** A socket for one step that leads to an agent; disposing of it ends all connections. */
export interface AgentSocket extends AsyncDisposable {
  readonly path: HostPath;
}

/**
 * Listens on a socket of its own, with the owner and mode that the step asked for, and asks the agent for what a step may ask: the
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
    connections.add(client);
    client.on('close', () => connections.delete(client));
    void lendAgent(client, agent);
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
    await chown(path, uid, gid).catch((cause: unknown) => {
      throw ownerFailure(cause, { uid, gid });
    });
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
