import { MachineError } from '../core/index.ts';

/** What `work` gives; undefined where it meets a diff that is damaged: for what only serves comfort, and can be done without. */
export async function ifSound<T>(work: () => Promise<T>): Promise<T | undefined> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof MachineError && error.code === 'snapshot-corrupt') return undefined;
    throw error;
  }
}
