export { BaseImages, type BaseImagesOptions, type UsableImage } from './base-image.ts';
export { type BuildOptions, build } from './build.ts';
export { type ContainerImage, type ContainerRequest, startContainer } from './container.ts';
export type { BuilderParts, BuildSuccess, FailedBuild } from './contract.ts';
export { beginTransfer, type TransferPhase } from './transfer-phase.ts';
export { type VerifyRecordsOptions, verifyRecords } from './verify-records.ts';
export { writeHitReport } from './verify-report.ts';
export type { VerifiedStep } from './verify-reused.ts';
