export { type CdiDevice, type DeviceEdits, devicesNamed, editsOf, readDevices } from './cdi.ts';
export { createLookInto } from './file-looks.ts';
export { createHashTar } from './hash-tar.ts';
export { GET_NATIVE, hasNativeProgram, locateNative } from './native-program.ts';
export { NativeServer } from './native-server.ts';
export { findNetworkHelper, type NetworkHelper, networkHelperPlaces } from './network-helper.ts';
export { createPortableTreeOps } from './portable-tree-ops.ts';
export { createRunner, type RunnerOptions, requireSandbox } from './runner.ts';
export { createTreeOps, type TreeOpsOptions } from './tree-ops.ts';
