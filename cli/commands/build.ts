import { statSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import type { NotedOutput, TimeSpan } from '../../cache/index.ts';
import type { BuildEvent, BuildRequest, BuildSession, Diagnostic } from '../../core/index.ts';
import { idOf, UsageError, unreachable } from '../../core/index.ts';
import type { FormatOptions } from '../../parser/index.ts';
import { type BuildOptions, readsStdin, type StdinContent, toBuildRequest } from '../argv/build-options.ts';
import { BUILD_SPEC } from '../argv/build-spec.ts';
import { callOf } from '../argv/call.ts';
import { readAgent, readSecret } from '../argv/session-options.ts';
import { openSession } from '../build-session.ts';
import { type CommandContext, defineCommand, write } from '../command.ts';
import type { BuildSuccess, Engine, FailedBuild } from '../engine-contract.ts';
import { INTERRUPTED } from '../interrupt.ts';
import { chooseMode, openRenderer, type ProgressMode } from '../progress/renderer.ts';
import { safeText } from '../progress/text.ts';
import { renderBuildFailure } from '../render-failure.ts';
import { metadataContent, writeAtomically } from '../result-files.ts';
import { type Style, styleFor } from '../style.ts';
import type { ToldBuild } from '../unchanged.ts';
import { isAnyWrong, renderVerified } from '../views/verify.ts';

/** Steps wait, for downloads and disks, more than they compute: so many run at once also where there are fewer CPUs. */
const FEWEST_AT_ONCE = 8;

export const build = defineCommand(BUILD_SPEC, async ({ flags, positionals, warnings }, context) => {
  const options: BuildOptions = { flags, context: positionals[0] ?? '' };
  await using spool = await openSpool(options, context);
  const config = await context.loadConfig();
  const request = toBuildRequest(options, {
    cwd: context.cwd,
    env: context.env,
    id: context.newId(),
    parallelism: config.build.parallelism ?? Math.max(context.cpus, FEWEST_AT_ONCE),
    isFolder: (path) => statSync(path, { throwIfNoEntry: false })?.isDirectory() === true,
    ...(spool.content === undefined ? {} : { stdin: spool.content }),
  });
  const call = callOf(flags);
  if (call !== undefined) {
    const { performCall } = await import('./call.ts');
    const style = styleFor(context.streams.stderr, context.env);
    const onFailure = (failed: FailedBuild): Promise<number> => reportFailure(failed, context, style);
    return await performCall(request, call, { context, onFailure });
  }
  refuseTerminal(request, context);
  await using session = await openSession({
    secrets: flags.secret.map((text) => readSecret(text, context.cwd, context.env)),
    agents: flags.ssh.map((text) => readAgent(text, context.cwd)),
    env: context.env,
    temporaryFolder: context.temporaryFolder,
  });
  // A file of the build before must not be taken for this one's, should it fail.
  if (flags.iidfile) await rm(flags.iidfile, { force: true });
  const isSilent = warnings.length === 0;
  return await performBuild(request, { ...options, session, isSilent }, context);
});

interface PreparedBuild extends BuildOptions {
  readonly session: BuildSession;
  /** Nothing was said so far. */
  readonly isSilent: boolean;
}

async function performBuild(
  request: BuildRequest,
  { flags, session, isSilent }: PreparedBuild,
  context: CommandContext,
): Promise<number> {
  const { env, streams, interrupt, now } = context;
  const style = styleFor(streams.stderr, env);
  const mode = flags.quiet ? 'quiet' : chooseMode(progressOf(flags.progress, env), streams.stderr, env);
  const events: BuildEvent[] = [];
  const warnings: Diagnostic[] = [];
  await using engine = await context.openEngine();
  const renderer = await openRenderer(mode, { output: streams.stderr, style, now });
  const result = await engine
    .build(request, {
      signal: interrupt.signal,
      session,
      writeStdout: (chunk) => write(streams.stdout, chunk),
      onEvent: (event) => {
        if (event.type === 'warning') warnings.push(event.diagnostic);
        if (event.type !== 'step.log' && event.type !== 'phase.progress') events.push(event);
        renderer.handle(event);
      },
    })
    .finally(() => renderer.finish());
  if (interrupt.signal.aborted && !result.ok) {
    streams.stderr.write('varve: interrupted\n');
    return INTERRUPTED;
  }
  if (flags['metadata-file']) {
    const wanted = isTrue(env['BUILDX_METADATA_WARNINGS']) ? warnings : undefined;
    const content = metadataContent(result.ok ? result.value : result.error, wanted);
    await writeAtomically(flags['metadata-file'], content, 'the metadata file');
  }
  let warned = '';
  if ((mode === 'plain' || mode === 'tty') && warnings.length > 0) {
    const { dockerfile } = result.ok ? result.value : result.error;
    warned = await warningText(warnings, dockerfile, style);
    streams.stderr.write(warned);
  }
  if (!result.ok) return await reportFailure(result.error, context, style);
  await reportSuccess(result.value, { iidfile: flags.iidfile, isQuiet: mode === 'quiet' }, context);
  if (isSilent && isRepeatable(flags) && mode !== 'rawjson')
    await noteIfUnchanged(result.value, { engine, mode, told: { events, warnings: warned } }, context);
  const { verified } = result.value;
  if (verified === undefined) return 0;
  streams.stderr.write(renderVerified(verified, style));
  return isAnyWrong(verified) ? 1 : 0;
}

/** Is what the build says all that it leaves outside of the store, and all that it takes in to be found there again? */
function isRepeatable(flags: BuildOptions['flags']): boolean {
  return !flags.iidfile && !flags['metadata-file'] && flags.secret.length === 0 && flags.ssh.length === 0;
}

/** Leaves a note of a build in which nothing had to be done. */
async function noteIfUnchanged(
  success: BuildSuccess,
  { engine, mode, told }: { readonly engine: Engine; readonly mode: NotedMode; readonly told: ToldBuild },
  { streams, env, now }: CommandContext,
): Promise<void> {
  const unchanged = success.unchanged?.();
  if (unchanged === undefined || success.image === undefined) return;
  const [{ callDigest, ownCall }, { plainAgain, terminalAgain }] = await Promise.all([
    import('../unchanged-call.ts'),
    import('../unchanged.ts'),
  ]);
  const call = callDigest(ownCall(streams));
  const note = (output: NotedOutput, during?: TimeSpan) =>
    engine.noteUnchanged(unchanged, { call, output: [output], during });
  switch (mode) {
    case 'quiet':
      return note({ fd: 1, pieces: [{ kind: 'text', text: `${idOf(success.image)}\n` }] });
    case 'plain':
      return note(plainAgain(told, unchanged));
    case 'tty': {
      const terminal = { terminal: streams.stderr, style: styleFor(streams.stderr, env), nowMs: now() };
      const { output, during } = await terminalAgain(told, unchanged, terminal);
      return note(output, during);
    }
    default:
      return unreachable(mode);
  }
}

/** A reader of JSON events wants the times of each. */
type NotedMode = Exclude<ProgressMode, 'auto' | 'rawjson'>;

async function reportSuccess(
  success: BuildSuccess,
  { iidfile, isQuiet }: { readonly iidfile: string | undefined; readonly isQuiet: boolean },
  { streams }: CommandContext,
): Promise<void> {
  if (success.image === undefined) return;
  const id = idOf(success.image);
  if (iidfile) await writeAtomically(iidfile, id, 'the image ID file');
  if (isQuiet) await write(streams.stdout, `${id}\n`);
}

async function reportFailure(
  failed: FailedBuild,
  { streams }: CommandContext,
  style: Style,
): Promise<number> {
  const { formatDiagnostic } = await import('../../parser/index.ts');
  const { failure, dockerfile } = failed;
  const text = renderBuildFailure(failure, {
    style,
    format: (diagnostic, source) => formatDiagnostic(diagnostic, source, { style: paint(style) }),
    ...(dockerfile === undefined ? {} : { dockerfile }),
  });
  streams.stderr.write(text);
  return 1;
}

/** Colours for the parts of a diagnostic. */
function paint(style: Style): NonNullable<FormatOptions['style']> {
  return (part, text) => {
    switch (part) {
      case 'error':
      case 'caret':
        return style.red(text);
      case 'warning':
        return style.yellow(text);
      case 'hint':
        return style.cyan(text);
      case 'message':
        return style.bold(text);
      case 'place':
      case 'gutter':
        return style.dim(text);
      case 'source':
        return text;
      default:
        return unreachable(part);
    }
  };
}

/** As BuildKit lists them at the end of a build, each with the lines that it is about and what to do. */
async function warningText(
  warnings: readonly Diagnostic[],
  dockerfile: { readonly file: string; readonly text: string } | undefined,
  style: Style,
): Promise<string> {
  const { formatExcerpt } = await import('../../parser/index.ts');
  const told = warnings.flatMap((warning) => {
    const { code, message, range, hint, url } = warning;
    const lines =
      dockerfile === undefined ? [] : formatExcerpt(range, dockerfile.text, { style: paint(style) });
    if (hint !== undefined) lines.push(`${style.cyan('hint:')} ${safeText(hint)}`);
    if (url !== undefined) lines.push(`${style.cyan('see:')} ${url}`);
    const head = ` - ${code}: ${safeText(message)} (line ${range.start.line})`;
    return [head, ...lines.map((line) => `   ${line}`)];
  });
  const count = `${warnings.length} warning${warnings.length === 1 ? '' : 's'} found:`;
  return `\n ${style.yellow(count)}\n${told.join('\n')}\n`;
}

/** `--progress`, else `$BUILDKIT_PROGRESS`, as buildx has it. */
function progressOf(flag: string | undefined, env: CommandContext['env']): ProgressMode {
  const word = flag ?? env['BUILDKIT_PROGRESS'];
  return word === 'tty' || word === 'plain' || word === 'rawjson' || word === 'quiet' ? word : 'auto';
}

/** As Go's strconv.ParseBool, where nothing and nonsense are false. */
function isTrue(text: string | undefined): boolean {
  return text !== undefined && /^(?:1|t|true)$/i.test(text);
}

function refuseTerminal(request: BuildRequest, { streams }: CommandContext): void {
  if (streams.stdout.isTTY !== true) return;
  for (const output of request.outputs) {
    if ('dest' in output && typeof output.dest === 'object' && output.dest.kind === 'stdout') {
      throw new UsageError(
        'the output is a tar: it is not written to a terminal',
        'Redirect it, or add dest=FILE to --output.',
      );
    }
  }
}

/** Standard input where the request needs it; an archive can be read until disposal. */
async function openSpool(
  options: BuildOptions,
  { streams, temporaryFolder, interrupt }: CommandContext,
): Promise<AsyncDisposable & { readonly content?: StdinContent }> {
  if (!readsStdin(options)) return { [Symbol.asyncDispose]: async () => {} };
  const { openNameless, readStdin } = await import('../stdin-content.ts');
  const spool = await openNameless(temporaryFolder);
  const close = () => spool.close();
  try {
    return { content: await readStdin(streams.stdin, spool, interrupt.signal), [Symbol.asyncDispose]: close };
  } catch (error) {
    await close();
    throw error;
  }
}
