export { actionDigest, encodeCanonical, KEY_VERSION, keyPreimage, stepKey } from './canonical.ts';
export * from './contract.ts';
export { type FingerprintOptions, factsDigest, fingerprint } from './fingerprint.ts';
