import { type ReusedStep, type Verdict, type VerifyParts, verifyStep } from './verify.ts';

/** A reused step and what carrying it out again showed. */
export interface VerifiedStep {
  readonly name: string;
  readonly verdict: Verdict;
}

/** Checks reused steps one after the other; `onStep` is called before each with how many are done. */
export async function verifyReused(
  steps: readonly ReusedStep[],
  parts: VerifyParts,
  { onStep, signal }: { readonly onStep: (done: number) => void; readonly signal: AbortSignal },
): Promise<readonly VerifiedStep[]> {
  const verified: VerifiedStep[] = [];
  for (const step of steps) {
    onStep(verified.length);
    signal.throwIfAborted();
    verified.push({ name: step.name, verdict: await verifyStep(step, parts, signal) });
  }
  onStep(verified.length);
  return verified;
}
