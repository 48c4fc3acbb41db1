/** Entry of the packing thread: takes `PackRequest`s, answers with `PackReply`s. */
import { createHash } from 'node:crypto';
import { parentPort } from 'node:worker_threads';
import { asDigest, type Change, type DiffId, MachineError, placeIn } from '../core/index.ts';
import { layerTarSync } from './layer-tar.ts';
import type { PackReply, PackRequest } from './pack-layer.ts';

function pack(changes: readonly Change[], request: Extract<PackRequest, { type: 'pack' }>): PackReply {
  const hash = createHash('sha256');
  let size = 0;
  const tar = layerTarSync(
    { changes, hostPath: (path) => placeIn(request.folders, path) },
    {
      reuseMemory: true,
      ...(request.sourceDateEpoch === undefined ? {} : { sourceDateEpoch: request.sourceDateEpoch }),
      onWarning: (message) => reply({ type: 'warning', message }),
    },
  );
  try {
    for (const chunk of tar) {
      hash.update(chunk);
      size += chunk.byteLength;
    }
  } catch (error) {
    if (!(error instanceof MachineError)) throw error;
    return { type: 'failed', code: error.code, message: error.message, hint: error.hint };
  }
  return { type: 'done', diffId: asDigest(`sha256:${hash.digest('hex')}`) as DiffId, size };
}

function reply(message: PackReply): void {
  parentPort?.postMessage(message);
}

const changes: Change[] = [];
parentPort?.on('message', (request: PackRequest) => {
  if (request.type === 'changes') changes.push(...request.changes);
  else reply(pack(changes, request));
});
