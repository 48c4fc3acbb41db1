export * from './ast.ts';
export { isKnownFrontend } from './directives.ts';
export { parseDuration } from './duration.ts';
export { type ExpandError, type ExpandOptions, expandBody, expandWord, expandWords } from './expand.ts';
export {
  type DiagnosticPart,
  type FormatOptions,
  formatDiagnostic,
  formatExcerpt,
} from './format-diagnostic.ts';
export { isLoneHeredoc } from './heredoc.ts';
export {
  type CacheSharing,
  type FlagFault,
  type Mount,
  parseBoolean,
  parseBytes,
  readMount,
} from './mount.ts';
export { type InstructionOutput, parse, parseInstruction } from './parse.ts';
export { heredocsIn, print } from './print.ts';
export { nearest } from './suggest.ts';
