export { MAX_BUILDS } from './build-log.ts';
export {
  type CacheMountLease,
  type CacheMountRequest,
  type CacheMounts,
  type CacheMountUsage,
  openCacheMounts,
} from './cache-mounts.ts';
export {
  actionDigest,
  encodeCanonical,
  KEY_VERSION,
  keyPreimage,
  observedKey,
  stepKey,
} from './canonical.ts';
export * from './contract.ts';
export { type EvictionInput, selectVictims, type Victim } from './evict.ts';
export {
  explainHit,
  explainHitSince,
  explainMiss,
  explainObserved,
  type ObservedHitFacts,
  sameAgeFor,
} from './explain.ts';
export { FactList, NO_FACTS } from './fact-list.ts';
export type { DigestFile } from './file-digest.ts';
export { type FileIndexOptions, openFileIndex, SETTLED_MS } from './file-index.ts';
export { type FingerprintOptions, fingerprint } from './fingerprint.ts';
export { isSessionAlive, openStepCache, type StepCacheOptions } from './store.ts';
export {
  encodeNote,
  type NotedOutput,
  type NoteHead,
  type OutputPiece,
  type TimeSpan,
  type UnchangedNote,
} from './unchanged-note.ts';
