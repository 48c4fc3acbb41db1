import { describe } from 'vitest';
import { describeContract } from './contract-suite.ts';
import { describeTracedContract } from './contract-traced.ts';
import { isRoot } from './test-rig.ts';

// The steps of the suite chown, mknod and mount, whatever the driver needs.
describe.skipIf(!isRoot)('snapshotter, overlay driver', () => describeContract('overlay'));
describe.skipIf(!isRoot)('snapshotter, copy driver', () => describeContract('copy'));
describe.skipIf(!isRoot)('snapshotter, overlay driver, traced', () => describeTracedContract('overlay'));
describe.skipIf(!isRoot)('snapshotter, overlay driver, user attributes, traced', () =>
  describeTracedContract('overlay', true),
);
describe.skipIf(!isRoot)('snapshotter, copy driver, traced', () => describeTracedContract('copy'));
