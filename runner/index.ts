export { GET_NATIVE, hasNativeProgram } from './native-program.ts';
export { createPortableTreeOps } from './portable-tree-ops.ts';
export { createRunner, type RunnerOptions, requireSandbox } from './runner.ts';
export { createTreeOps, type TreeOpsOptions } from './tree-ops.ts';
