// `npm run demo`: the main job on a real application. Everything happens in a temporary folder, which is removed.
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { StepSummary } from '../core/index.ts';
import { baseImage, exec } from '../fixtures/index.ts';
import { SetupError, setUp } from './setup.ts';

const CHECKOUT = join(import.meta.dirname, '..');

/** One run of the demo: its folders, and whether everything went as it should. */
class Demo {
  readonly #folder = mkdtempSync(join(tmpdir(), 'varve-demo-'));
  readonly #context = join(this.#folder, 'node-app');
  #failures = 0;

  get ok(): boolean {
    return this.#failures === 0;
  }

  async run(): Promise<void> {
    cpSync(join(CHECKOUT, 'fixtures/apps/node-app'), this.#context, { recursive: true });
    await this.#loadBase();
    this.#buildCold();
    this.#buildUnchanged();
    this.#buildTouched();
    this.#buildEdited();
    this.#runContainer();
  }

  cleanUp(): void {
    rmSync(this.#folder, { recursive: true, force: true });
  }

  async #loadBase(): Promise<void> {
    title('A base image from Debian packages and the npm registry (no image registry is asked)');
    console.log('  made once and kept, which takes a minute the first time');
    const base = await baseImage('node');
    const archive = join(this.#folder, 'node.tar');
    await exec([
      'skopeo',
      'copy',
      '--quiet',
      base.transport,
      `docker-archive:${archive}:localhost/node:latest`,
    ]);
    this.#varve(['load', '--input', archive]);
  }

  #buildCold(): void {
    title('First build: everything runs');
    const steps = this.#build('plain');
    const commands = steps.filter((step) => step.name.startsWith('RUN '));
    this.#expect(
      'every command ran',
      commands.length > 0 && commands.every((step) => step.outcome === 'ran'),
    );
  }

  #buildUnchanged(): void {
    title('The same again: one look-up a step');
    const steps = this.#build('quiet');
    this.#expect(
      'every step was reused',
      steps.length > 0 && steps.every((step) => step.outcome === 'exact'),
    );
  }

  #buildTouched(): void {
    title('Every file gets a new time stamp, no content changes');
    const now = new Date();
    for (const name of readdirSync(this.#context, { recursive: true, encoding: 'utf8' })) {
      utimesSync(join(this.#context, name), now, now);
    }
    const steps = this.#build('quiet');
    this.#expect(
      'every step was reused',
      steps.length > 0 && steps.every((step) => step.outcome === 'exact'),
    );
  }

  #buildEdited(): void {
    title('One source file is edited: the program greets otherwise');
    const file = join(this.#context, 'src/greeting.js');
    writeFileSync(file, readFileSync(file, 'utf8').replace('Hello', 'Good morning'));
    const steps = this.#build('quiet');
    const installs = steps.filter((step) => step.name.startsWith('RUN npm ci'));
    const ran = steps.filter((step) => step.outcome === 'ran').map((step) => step.name);
    this.#expect(
      'both `npm ci` were reused',
      installs.length === 2 && installs.every((step) => step.outcome === 'exact'),
    );
    this.#expect('the sources were copied again', ran.includes('COPY src ./src'));
    this.#expect('the bundle was built again', ran.includes('RUN npm run build'));
    this.#varve(['why', 'COPY src ./src']);
  }

  #runContainer(): void {
    title('A container from the result');
    const { stdout } = this.#varve(['run', '--rm', 'demo/app', 'GET', '/greet/varve']);
    this.#expect('it greets', stdout.includes('"message":"Good morning, varve!"'));
    this.#expect('it is not root', stdout.includes('"uid":33'));
  }

  /** Builds the application and prints, for each step, how it came to its result and why. */
  #build(progress: 'plain' | 'quiet'): readonly StepSummary[] {
    const metadata = join(this.#folder, 'metadata.json');
    const flags = ['--build-arg', 'REGISTRY=localhost', '--tag', 'demo/app', '--metadata-file', metadata];
    const began = performance.now();
    const { code } = this.#varve(['build', `--progress=${progress}`, ...flags, this.#context]);
    const seconds = (performance.now() - began) / 1000;
    if (code !== 0) return [];
    const { 'varve.steps': steps }: { 'varve.steps': readonly StepSummary[] } = JSON.parse(
      readFileSync(metadata, 'utf8'),
    );
    for (const step of steps) {
      const ms = `${step.ms} ms`.padStart(9);
      console.log(`    ${step.outcome.padEnd(9)}${ms}  ${step.name}\n${' '.repeat(24)}${step.reason}`);
    }
    console.log(`    in ${seconds.toFixed(2)} s`);
    return steps;
  }

  /** Runs the command line as a person would, shows its output, and counts a failure where it fails. */
  #varve(args: readonly string[]): { readonly code: number; readonly stdout: string } {
    console.log(`$ varve ${args.map((arg) => shown(arg.replace(this.#folder, '…'))).join(' ')}`);
    const run = spawnSync(join(CHECKOUT, 'bin/varve'), args, {
      encoding: 'utf8',
      maxBuffer: 1 << 28,
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { ...process.env, VARVE_ROOT: join(this.#folder, 'store') },
    });
    process.stdout.write(run.stdout ?? '');
    const code = run.status ?? 1;
    if (code !== 0) this.#expect(`varve ${args[0]} ends with exit code 0, not ${code}`, false);
    return { code, stdout: run.stdout ?? '' };
  }

  #expect(what: string, holds: boolean): void {
    console.log(`  ${holds ? 'ok  ' : 'FAIL'} ${what}`);
    if (!holds) this.#failures += 1;
  }
}

/** As one would type it into a shell. */
function shown(arg: string): string {
  return arg.includes(' ') ? `'${arg}'` : arg;
}

function title(text: string): void {
  console.log(`\n── ${text}`);
}

try {
  setUp('demo');
  const demo = new Demo();
  try {
    await demo.run();
  } finally {
    demo.cleanUp();
  }
  console.log(demo.ok ? '\nThe demo did what it promised.' : '\nThe demo failed: see FAIL above.');
  process.exitCode = demo.ok ? 0 : 1;
} catch (error) {
  console.error(error instanceof SetupError ? `setup: ${error.message}` : error);
  process.exitCode = 1;
}
