import type { StepReport } from '../../cache/index.ts';
import { MachineError, UsageError } from '../../core/index.ts';
import { defineSpec } from '../argv/spec.ts';
import { defineCommand, write } from '../command.ts';
import type { Engine } from '../engine-contract.ts';
import { styleFor } from '../style.ts';
import { findStep, plainRead, renderBuilds, renderReads, renderWhy } from '../views/why.ts';

const LISTED = 50;

export const why = defineCommand(
  defineSpec({
    name: 'why',
    summary: 'Show why each step of a build was reused or ran',
    usage: '[OPTIONS] [STEP]',
    details: 'STEP is the number of a step, or words that only one step has.',
    positionals: { min: 0, max: 1 },
    flags: {
      build: { type: 'string', placeholder: 'ID', help: 'Tell of this build', shownDefault: 'the last one' },
      format: { type: 'string', help: 'Format output', choices: ['text', 'json'], shownDefault: '"text"' },
      reads: { type: 'boolean', help: 'List what STEP looked at when it ran' },
      list: { type: 'boolean', help: 'List the builds that can be asked about' },
    },
  }),
  async ({ flags, positionals }, context) => {
    await using engine = await context.openEngine();
    const { stdout } = context.streams;
    const json = flags.format === 'json';
    if (flags.list) {
      const reports = await engine.reports(LISTED);
      await write(stdout, json ? `${JSON.stringify(reports)}\n` : renderBuilds(reports, context.now()));
      return 0;
    }
    const report = await engine.report(flags.build);
    if (report === undefined) {
      const what = flags.build === undefined ? 'there was no build yet' : `there is no build ${flags.build}`;
      throw new MachineError('build-unknown', what, { hint: "'varve why --list' lists what is known." });
    }
    const words = positionals[0];
    const step = words === undefined ? undefined : findStep(report, words);
    if (words !== undefined && step === undefined) {
      throw new UsageError(`build ${report.id} has no step, or several steps, like ${JSON.stringify(words)}`);
    }
    if (flags.reads) {
      const asked = step === undefined ? undefined : report.steps[step - 1];
      if (asked === undefined)
        throw new UsageError('--reads needs a STEP', "Its number stands in 'varve why'.");
      await write(stdout, await readsOf(asked, engine, json));
      return 0;
    }
    const options = {
      style: styleFor(stdout, context.env),
      now: context.now(),
      ...(step === undefined ? {} : { step }),
    };
    const shown = step === undefined ? report : { ...report, steps: report.steps.slice(step - 1, step) };
    await write(stdout, json ? `${JSON.stringify(shown)}\n` : renderWhy(report, options));
    return 0;
  },
);

async function readsOf(step: StepReport, engine: Engine, json: boolean): Promise<string> {
  const observations = step.key === undefined ? undefined : await engine.reads(step.key);
  if (observations === undefined) {
    throw new MachineError('not-observed', `it is not known what ${step.info.name} looked at`, {
      hint: 'Steps right on a base image that mount nothing, steps with cache=exact and steps that failed are not observed.',
    });
  }
  return json ? `${JSON.stringify(observations.map(plainRead))}\n` : renderReads(observations);
}
