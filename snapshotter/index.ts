export { type ChooseDriverOptions, chooseDriver } from './choose-driver.ts';
export {
  type CommitOptions,
  createSnapshotter,
  type SnapshotterOptions,
  type StoreActiveSnapshot,
  type StoreFrozenSnapshot,
  type StoreSnapshotter,
} from './snapshotter.ts';
