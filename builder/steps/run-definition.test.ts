import { expect, test } from 'vitest';
import { encodeCanonical } from '../../cache/index.ts';
import { imagePath } from '../../core/index.ts';
import { type RunFields, readRunDefinition, runDefinition } from './run-definition.ts';

const PLAIN: RunFields = {
  platform: { os: 'linux', architecture: 'amd64' },
  args: ['/bin/sh', '-c', 'make'],
  environment: { PATH: '/bin', EMPTY: '' },
  user: '',
  workdir: imagePath('/src'),
  network: 'default',
  mounts: [],
  security: 'sandbox',
  devices: [],
  limits: {},
};
const FULL: RunFields = {
  ...PLAIN,
  platform: { os: 'linux', architecture: 'arm', variant: 'v7' },
  hostname: 'builder',
  script: { name: 'EOF', text: '#!/bin/sh\n' },
  user: 'app:staff',
  workdir: imagePath('/'),
  network: 'none',
  mounts: [
    { type: 'tmpfs', target: imagePath('/tmp') },
    { type: 'tmpfs', target: imagePath('/cache'), sizeBytes: 4096 },
  ],
};

test.each([
  ['a plain RUN', PLAIN],
  ['one with everything', FULL],
])('readRunDefinition reads back %s as it was recorded', (_what, fields) => {
  const recorded = JSON.parse(encodeCanonical(runDefinition(fields)));
  expect(readRunDefinition(recorded)).toEqual(fields);
});

test.each([
  ['command', 'make'],
  ['environment', ['PATH=/bin']],
  ['environment', { PATH: 1 }],
  ['network', 'bridge'],
  ['mounts', [{ type: 'cache', target: 'x' }]],
  ['mounts', [{ type: 'tmpfs', target: 'x', sizeBytes: 'big' }]],
  ['workdir', null],
  ['platform', 'linux'],
])('readRunDefinition refuses the field %s as %j', (field, value) => {
  const definition = { ...runDefinition(PLAIN), [field]: value };
  expect(() => readRunDefinition(definition)).toThrow('not part of the definition of a RUN');
});
