import { type Digest, digestOf } from '../../core/index.ts';
import { type DeviceEdits, devicesNamed, editsOf, readDevices } from '../../runner/index.ts';
import type { DeviceRequest, Step } from '../graph.ts';
import { stop } from '../stop.ts';

/** A device that a step gets, with what that changes in its sandbox. */
export interface FoundDevice {
  readonly name: string;
  readonly edits: DeviceEdits;
}

/**
 * The machine's devices that steps ask for. Ends the build where one that is needed is not there, or is there and was not granted.
 *
 * @param folders where they are described; absent: the usual ones
 * @throws MachineError `cdi-unreadable` where a device is described in a way that cannot be had here.
 */
export async function findDevices(
  requests: readonly DeviceRequest[],
  folders?: readonly string[],
): Promise<readonly FoundDevice[]> {
  if (requests.length === 0) return [];
  const { devices: known, faults } = await readDevices(folders);
  const found = new Map<string, FoundDevice>();
  for (const request of requests) {
    const { name, required, range, granted } = request;
    const devices = devicesNamed(name, known);
    for (const device of devices) {
      if (!granted && !device.isForAll) refuse(request);
      found.set(device.name, { name: device.name, edits: editsOf(device) });
    }
    if (devices.length > 0 || !required) continue;
    const names = known.map((device) => device.name).join(', ');
    const hint =
      names === ''
        ? 'No device is described in /etc/cdi, /var/run/cdi or /etc/buildkit/cdi.'
        : `The machine describes ${names}.`;
    stop('unknown-device', `required device ${JSON.stringify(name)} is not registered`, {
      range,
      hint: [hint, ...faults.map((fault) => `Left out: ${fault}.`)].join(' '),
    });
  }
  return [...found.values()];
}

/** Ends the build before its first step where one will not get its devices. @throws as {@link findDevices}. */
export async function checkDevices(steps: readonly Step[]): Promise<void> {
  await findDevices(steps.flatMap((step) => (step.kind === 'RUN' ? step.devices : [])));
}

function refuse({ name, range }: DeviceRequest): never {
  stop('not-allowed', `RUN --device=${name} is not allowed: device was not granted`, {
    range,
    hint: `Build with --allow device=${name}, or --allow device for all, if you trust this Dockerfile.`,
  });
}

/** What a command sees of devices, for the step's action; absent where there are none. */
export function editsDigest(devices: readonly FoundDevice[]): Digest | undefined {
  if (devices.length === 0) return undefined;
  const seen = devices.map(({ name, edits: { env, mounts, rules, hooks, additionalGids } }) => ({
    name,
    env,
    mounts: mounts.map(({ target }) => target),
    rules,
    ...(hooks.length === 0 ? {} : { hooks }),
    ...(additionalGids.length === 0 ? {} : { additionalGids }),
  }));
  return digestOf(JSON.stringify(seen));
}
