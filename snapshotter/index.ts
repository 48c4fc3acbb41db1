export { type ChooseDriverOptions, chooseDriver } from './choose-driver.ts';
export {
  type ComparisonRules,
  type DiffContent,
  type DiffDifference,
  type DifferenceKind,
  firstDifference,
} from './compare-diffs.ts';
export {
  createSnapshotter,
  type SnapshotterOptions,
} from './snapshotter.ts';
