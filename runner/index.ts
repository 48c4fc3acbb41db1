export { createRunner, type RunnerOptions } from './runner.ts';
export { createTreeOps, type TreeOpsOptions } from './tree-ops.ts';
