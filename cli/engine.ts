import type { OpenEngine } from './engine-contract.ts';

/** Composes the rooms into the one object that the commands use. */
export const openEngine: OpenEngine = async () => {
  throw new Error('the engine is not composed yet');
};
