import { type Digest, digestOf } from '../../core/index.ts';
import { type CdiDevice, devicesNamed, readDevices } from '../../runner/index.ts';
import type { DeviceRequest } from '../graph.ts';
import { stop } from '../stop.ts';

/** The machine's devices that a step asks for. Ends the build where one that it needs is not there. */
export async function findDevices(requests: readonly DeviceRequest[]): Promise<readonly CdiDevice[]> {
  if (requests.length === 0) return [];
  const known = await readDevices();
  const found = new Set<CdiDevice>();
  for (const { name, required, range } of requests) {
    const devices = devicesNamed(name, known);
    for (const device of devices) found.add(device);
    if (devices.length > 0 || !required) continue;
    const names = known.map((device) => device.name).join(', ');
    stop('unknown-device', `required device ${JSON.stringify(name)} is not registered`, {
      range,
      hint:
        names === ''
          ? 'No device is described in /etc/cdi or /var/run/cdi.'
          : `/etc/cdi and /var/run/cdi describe ${names}.`,
    });
  }
  return [...found];
}

/** What a command sees of devices, for the step's action; absent where there are none. */
export function editsDigest(devices: readonly CdiDevice[]): Digest | undefined {
  if (devices.length === 0) return undefined;
  const seen = devices.map(({ name, edits: { env, mounts, rules } }) => ({
    name,
    env,
    mounts: mounts.map(({ target }) => target),
    rules,
  }));
  return digestOf(JSON.stringify(seen));
}
