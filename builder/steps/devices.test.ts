import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { DeviceRequest } from '../graph.ts';
import { stopped } from '../testing/stopped.ts';
import { findDevices } from './devices.ts';

const HOLES = {
  kind: 'varve.test/hole',
  devices: [
    { name: 'black', containerEdits: { env: ['HOLE=black'] } },
    {
      name: 'white',
      annotations: { 'org.mobyproject.buildkit.device.autoallow': true },
      containerEdits: { env: ['HOLE=white'] },
    },
  ],
};

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'varve-devices-'));
  writeFileSync(join(folder, 'holes.json'), JSON.stringify(HOLES));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const place = { line: 1, column: 1, offset: 0 };
const request = (name: string, more: Partial<DeviceRequest> = {}): DeviceRequest => ({
  name,
  required: false,
  granted: false,
  range: { start: place, end: place },
  ...more,
});
const find = async (...requests: DeviceRequest[]) =>
  (await findDevices(requests, [folder])).flatMap(({ edits }) => edits.env);

test('findDevices gives what was granted, what its specification allows to all, each once, and no device that is not there', async () => {
  const granted = request('varve.test/hole=black', { granted: true });
  expect(await find(granted, granted)).toEqual(['HOLE=black']);
  expect(await find(request('varve.test/hole=white'), request('varve.test/hole=none'))).toEqual([
    'HOLE=white',
  ]);
});

test.each([
  [
    request('varve.test/hole=black'),
    'RUN --device=varve.test/hole=black is not allowed: device was not granted',
  ],
  [request('varve.test/hole=*'), 'RUN --device=varve.test/hole=* is not allowed: device was not granted'],
  [
    request('varve.test/hole=none', { required: true }),
    'required device "varve.test/hole=none" is not registered',
  ],
])('findDevices refuses %j', async (asked, message) => {
  const failure = await stopped(() => find(asked));
  expect(failure.message).toBe(message);
  expect(failure.hint).toMatch(
    /--allow device=varve|The machine describes varve.test\/hole=black, varve.test\/hole=white/,
  );
});
