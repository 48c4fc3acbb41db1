import { unreachable } from '../core/index.ts';
import { isMet, type Judgement, type Limit, type Times } from './judge.ts';
import type { Machine } from './machine.ts';
import {
  type BesideResult,
  exponentsOf,
  type GrowthResult,
  isWithinLimit,
  type Result,
  type StoredResult,
} from './result.ts';
import { type Summary, summarise } from './statistics.ts';

const BEGIN = '<!-- results: written by npm run bench -->';
const END = '<!-- end of results -->';

/**
 * The page with the text between its two marks replaced by tables of the results.
 *
 * @throws Error where the marks are missing.
 */
export function withResults(page: string, results: readonly StoredResult[]): string {
  const [before, rest] = page.split(BEGIN);
  const after = rest?.split(END)[1];
  if (before === undefined || after === undefined) throw new Error(`the page has no "${BEGIN}" and "${END}"`);
  return `${before}${BEGIN}\n\n${renderResults(results)}\n${END}${after}`;
}

/** Markdown: a table for each kind of result, and the machines that they were measured on. */
export function renderResults(results: readonly StoredResult[]): string {
  const rows = {
    tracing: [] as string[],
    rebuild: [] as string[],
    beside: [] as string[],
    growth: [] as string[],
    observations: [] as string[],
  };
  for (const { result } of results) rows[result.kind].push(...rowsOf(result));
  const tables = [
    table(
      ['workload', 'untraced', 'traced', 'wall time', 'step alone', 'processor time', 'limit', ''],
      rows.tracing,
    ),
    table(['builder', 'first build', 'after an edit', 'varve takes', 'limit', ''], rows.rebuild),
    table(['workload', ...BUILDERS, 'floors', 'found', 'limit', ''], rows.beside),
    table(['layer', 'size', 'build', 'time', 'a unit', 'memory', 'limit', ''], rows.growth),
    table(['step', 'paths', 'bytes', 'bytes a path', 'limit', ''], rows.observations),
  ];
  return [...tables.filter((text) => text !== ''), machines(results)].join('\n');
}

function table(head: readonly string[], rows: readonly string[]): string {
  if (rows.length === 0) return '';
  return [row(head), row(head.map(() => '---')), ...rows, ''].join('\n');
}

function row(cells: readonly string[]): string {
  return `| ${cells.join(' | ')} |`;
}

function rowsOf(result: Result): readonly string[] {
  const verdict = isWithinLimit(result) ? 'met' : '**missed**';
  switch (result.kind) {
    case 'tracing': {
      const { pairs, wall, step, cpu, limit } = result;
      const times = (of: 'traced' | 'untraced'): string =>
        seconds(summarise(pairs.map((pair) => pair[of].wallMs)).median);
      const cells = [times('untraced'), times('traced'), overhead(wall), overhead(step), overhead(cpu)];
      return [row([result.title, ...cells, `≤ ${percent(limit - 1)}`, verdict])];
    }
    case 'rebuild':
      return result.builders.map((times) => {
        if (times.kind === 'unavailable')
          return row([times.builder, times.reason, '', '', '', 'not measured']);
        const ratio = result.ratios.find(({ builder }) => builder === times.builder)?.ratio;
        const cells = [`${times.builder} ${times.version}`, seconds(times.coldMs)];
        const rebuilt = seconds(summarise(times.rebuildMs).median);
        if (ratio === undefined) return row([...cells, rebuilt, '', '', '']);
        const isMet = ratio.median <= result.limit ? 'met' : '**missed**';
        return row([...cells, rebuilt, `${ratio.median.toFixed(3)} of it`, `≤ ${result.limit}`, isMet]);
      });
    case 'beside':
      return besideRows(result);
    case 'growth':
      return growthRows(result);
    case 'observations':
      return result.sets.map(({ name, paths, bytes }) => {
        const each = bytes / paths;
        const isMet = each < result.limit ? 'met' : '**missed**';
        return row([name, String(paths), String(bytes), each.toFixed(1), `< ${result.limit}`, isMet]);
      });
    default:
      return unreachable(result);
  }
}

const BUILDERS = ['varve', 'docker.io', 'buildah'] as const;

/** A row for each limit; what was measured stands in the first. */
function besideRows(result: BesideResult): readonly string[] {
  const time = (ms: Times): string => briefly(summarise(ms).median);
  const times = BUILDERS.map((wanted) => {
    const found = result.builders.find(({ name }) => name === wanted);
    return found === undefined ? 'not here' : time(found.ms);
  });
  const floors = result.floors.map(({ name, ms }) => `\`${name}\` ${time(ms)}`).join(', ');
  const first = [result.title, ...times, floors];
  return result.judgements.map((judgement, i) => {
    const cells = i === 0 ? first : first.map(() => '');
    const verdict = isMet(judgement) ? 'met' : '**missed**';
    return row([...cells, foundText(judgement), limitText(judgement.limit), verdict]);
  });
}

/** The median with its quartiles, and what it is beside. */
function foundText({ limit, found, beside }: Judgement): string {
  const text = (value: number): string => {
    switch (limit.kind) {
      case 'ratio':
      case 'times':
        return value.toFixed(2);
      case 'above':
      case 'wall':
      case 'step':
        return briefly(value);
      default:
        return unreachable(limit);
    }
  };
  const spread = found.count === 1 ? '' : ` (${text(found.low)} to ${text(found.high)})`;
  return `${text(found.median)}${spread}${beside === undefined ? '' : besideText(limit, beside)}`;
}

function besideText({ kind }: Limit, beside: string): string {
  if (kind === 'ratio') return ` of ${beside}`;
  return kind === 'above' ? ` above \`${beside}\`` : ` × \`${beside}\``;
}

function limitText(limit: Limit): string {
  switch (limit.kind) {
    case 'ratio':
    case 'times':
      return `≤ ${limit.most}`;
    case 'above':
    case 'wall':
      return `≤ ${briefly(limit.most)}`;
    case 'step':
      return `≤ ${briefly(limit.most)} a step`;
    default:
      return unreachable(limit);
  }
}

/** A row for each build of each size. Growth is judged in the rows of the last size. */
function growthRows(result: GrowthResult): readonly string[] {
  const { title, unit, points, skipped, limit, mostMiB } = result;
  const exponents = new Map(exponentsOf(result).map(({ name, exponent }) => [name, exponent]));
  const rows = points.flatMap(({ size, builds }, at) =>
    builds.map(({ name, ms, peakMiB }) => {
      const exponent = at === points.length - 1 ? exponents.get(name) : undefined;
      const each = `${((ms / size) * 1000).toFixed(0)} µs`;
      const grown = exponent === undefined ? '' : `, grows by size^${exponent.toFixed(2)}`;
      const isFine = peakMiB <= mostMiB && (exponent ?? 0) <= limit;
      const asked = `≤ ${mostMiB} MiB${exponent === undefined ? '' : `, ≤ size^${limit}`}`;
      const cells = [title, `${size.toLocaleString('en')} ${unit}`, name, `${briefly(ms)}${grown}`, each];
      return row([...cells, `${peakMiB} MiB`, asked, isFine ? 'met' : '**missed**']);
    }),
  );
  const without = skipped.map((size) => row([title, `${size} ${unit}`, '', '', '', '', '', 'no room']));
  return [...rows, ...without];
}

/** `48 ms`, `3.42 s`. */
function briefly(ms: number): string {
  if (Math.abs(ms) < 10) return `${ms.toFixed(1)} ms`;
  return Math.abs(ms) < 1000 ? `${ms.toFixed(0)} ms` : seconds(ms);
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(2)} s`;
}

/** `+3.1 % (+1.0 to +4.8)`: the median, and the quartiles. */
function overhead({ median, low, high }: Summary): string {
  return `${percent(median - 1, true)} (${percent(low - 1, true)} to ${percent(high - 1, true)})`;
}

function percent(share: number, signed = false): string {
  const text = (share * 100).toFixed(signed ? 1 : 0);
  return `${signed && share >= 0 ? '+' : ''}${text} %`;
}

/** One line for each machine and day; results of one run share it. */
function machines(results: readonly StoredResult[]): string {
  const lines = new Map<string, string[]>();
  for (const { machine, measuredAt, result } of results) {
    const line = `${describe(machine)}, on ${measuredAt.slice(0, 10)}`;
    lines.set(line, [...(lines.get(line) ?? []), result.workload]);
  }
  return [...lines].map(([line, workloads]) => `Measured on ${line}: ${workloads.join(', ')}.\n`).join('\n');
}

function describe(machine: Machine): string {
  const { processor, processors, memoryGiB, kernel, system, node } = machine;
  return `${processor} (${processors} processors, ${memoryGiB} GiB), Linux ${kernel}, ${system}, Node ${node}`;
}
