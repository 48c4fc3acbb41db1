export { type ChooseDriverOptions, chooseDriver } from './choose-driver.ts';
export {
  createSnapshotter,
  type SnapshotterOptions,
} from './snapshotter.ts';
