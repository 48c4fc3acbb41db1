import type { ArgInstruction } from '../../parser/index.ts';
import type { StageDraft } from '../stage-draft.ts';
import { PROXY_ARGS } from '../variables.ts';

/**
 * `ARG name[=default]`: the name as it stands; the value comes from the command line, else from the default, else from the
 * global scope. An argument with a value is a variable of everything that follows in the stage. Predefined proxy arguments
 * stay out of the environment that keys see unless they are declared.
 */
export function planArg(instruction: ArgInstruction, stage: StageDraft): void {
  const shown: string[] = [];
  for (const arg of instruction.args) {
    const name = arg.name.text;
    const given = stage.context.buildArgs.get(name);
    const value =
      given ??
      (arg.defaultValue === undefined ? stage.context.globals.get(name) : stage.expand(arg.defaultValue));
    if (given !== undefined) stage.context.consumedArgs.add(name);
    stage.checks.declare(name);
    if (value !== undefined && !NO_VARIABLES.has(name)) stage.variables.set(name, value);
    stage.args.set(name, value ?? '');
    shown.push(value === undefined ? name : `${name}=${value}`);
  }
  stage.note(`ARG ${shown.join(' ')}`);
}

/** Arguments that speak to BuildKit's scanners alone. */
const NO_VARIABLES: ReadonlySet<string> = new Set(['BUILDKIT_SBOM_SCAN_CONTEXT', 'BUILDKIT_SBOM_SCAN_STAGE']);

/**
 * Proxy settings given on the command line that no ARG of the stage declares. As in BuildKit, however a name is written, commands see
 * it in upper and in lower case.
 */
export function undeclaredProxies(stage: StageDraft): Readonly<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const name of [...stage.context.buildArgs.keys()].sort()) {
    const value = stage.context.buildArgs.get(name) ?? '';
    if (!PROXY_ARGS.includes(name.toLowerCase()) || value === '') continue;
    for (const variant of [name.toUpperCase(), name.toLowerCase()])
      if (!stage.variables.has(variant)) found[variant] = value;
  }
  return found;
}
