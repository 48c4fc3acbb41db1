import { type Entry, err, ok, type Result } from '../core/index.ts';

/** What gives a copied file its permission bits, from those that its source has. */
export type ModeOf = (entry: Pick<Entry, 'mode' | 'type'>) => number;

/** One step of a symbolic mode. */
type ModeStep =
  | { readonly kind: 'add' | 'clear'; readonly bits: number }
  /** `X`: only of folders and of what somebody may execute already. */
  | { readonly kind: 'add-executable' | 'clear-executable'; readonly bits: number }
  /** `g=u`: the permissions of one class given to others. */
  | { readonly kind: 'copy'; readonly from: number; readonly to: number; readonly operator: Operator };

type Operator = '+' | '-' | '=';

const SET_ID = 0o6000;
const STICKY = 0o1000;
const EXECUTE = 0o111;
/** The bits of each class; set-user-id belongs to the user, set-group-id to the group. */
const CLASS_BITS: Readonly<Record<string, number>> = { a: 0o6777, u: 0o4700, g: 0o2070, o: 0o007 };
const SHIFTS: Readonly<Record<string, number>> = { u: 6, g: 3, o: 0 };
const CLAUSE = /^([augo]*)((?:[+=-][rwxXstugo]*)+)$/;

/**
 * Reads the value of `--chmod`: octal digits up to 7777, or a symbolic mode as in chmod(1), with nothing masked where no class
 * is named (`+w` is `a+w`).
 *
 * @returns a message where it is neither, in BuildKit's words.
 */
export function parseMode(text: string): Result<ModeOf, string> {
  if (/^\d/.test(text)) {
    const mode = /^[0-7]+$/.test(text) ? Number.parseInt(text, 8) : Number.POSITIVE_INFINITY;
    if (mode <= 0o7777) return ok(() => mode);
    return err(`invalid chmod parameter: '${text}'. it should be octal string and between 0 and 07777`);
  }
  const steps: ModeStep[] = [];
  for (const clause of text.split(',')) {
    const read = readClause(clause);
    if (read === undefined)
      return err(`invalid chmod parameter: '${text}': ${JSON.stringify(clause)} is no mode`);
    steps.push(...read);
  }
  return ok((entry) => steps.reduce((mode, step) => applyStep(mode, step, entry), entry.mode));
}

/** `u=rw`, `go-w+X`: classes, then operators each with what it gives or takes. */
function readClause(clause: string): readonly ModeStep[] | undefined {
  const [, classes = '', actions] = CLAUSE.exec(clause) ?? [];
  if (actions === undefined) return undefined;
  const who = [...(classes === '' ? 'a' : classes)].reduce((bits, one) => bits | (CLASS_BITS[one] ?? 0), 0);
  const steps: ModeStep[] = [];
  for (const [, operator = '', permissions = ''] of actions.matchAll(/([+=-])([^+=-]*)/g)) {
    steps.push(...readAction(operator as Operator, permissions, who));
  }
  return steps;
}

function readAction(operator: Operator, permissions: string, who: number): readonly ModeStep[] {
  const isOthersAlone = (who & ~0o007) === 0;
  let bits = 0;
  if (permissions.includes('r')) bits |= 0o444 & who;
  if (permissions.includes('w')) bits |= 0o222 & who;
  if (permissions.includes('x')) bits |= EXECUTE & who;
  if (permissions.includes('s')) bits |= SET_ID & who;
  if (permissions.includes('t') && !isOthersAlone) bits |= STICKY;
  const steps: ModeStep[] = [];
  const copied = [...permissions].filter((one) => one in SHIFTS);
  if (operator === '=' && copied.length === 0) steps.push({ kind: 'clear', bits: who | (bits & STICKY) });
  if (bits !== 0) steps.push({ kind: operator === '-' ? 'clear' : 'add', bits });
  for (const from of copied) steps.push({ kind: 'copy', from: SHIFTS[from] ?? 0, to: who & 0o777, operator });
  if (permissions.includes('X')) {
    steps.push({ kind: operator === '-' ? 'clear-executable' : 'add-executable', bits: EXECUTE & who });
  }
  return steps;
}

function applyStep(mode: number, step: ModeStep, entry: Pick<Entry, 'mode' | 'type'>): number {
  switch (step.kind) {
    case 'add':
      return mode | step.bits;
    case 'clear':
      return mode & ~step.bits;
    case 'add-executable':
    case 'clear-executable': {
      const counts = entry.type === 'dir' || (entry.mode & EXECUTE) !== 0;
      if (!counts) return mode;
      return step.kind === 'add-executable' ? mode | step.bits : mode & ~step.bits;
    }
    case 'copy': {
      const value = (mode >> step.from) & 0o7;
      const everywhere = ((value << 6) | (value << 3) | value) & step.to;
      if (step.operator === '+') return mode | everywhere;
      if (step.operator === '-') return mode & ~everywhere;
      return (mode & ~step.to) | everywhere;
    }
  }
}
