import type { Diagnostic } from '../core/index.ts';
import type { EscapeCharacter } from './ast.ts';
import { ofTrigger } from './build.ts';
import { INSTRUCTIONS, type Token } from './lexer.ts';
import { beyond } from './limits.ts';
import type { JoinedText } from './source-text.ts';
import { nearest } from './suggest.ts';

/** Says what is wrong with tokens that the grammar refused, in the terms of the instruction that they begin. */
export function explain(
  tokens: readonly Token[],
  joined: JoinedText,
  escapeCharacter: EscapeCharacter,
): Diagnostic {
  const [keyword, ...rest] = tokens;
  if (keyword === undefined) throw new Error('an instruction has at least one token');
  const last = rest.at(-1);
  if (last?.type === 'tooMany') {
    const range = joined.range(last.offset, last.offset + last.text.length);
    return beyond('words', `words in this ${keyword.type}`, range);
  }
  const body = rest.filter((token) => token.type !== 'flag');
  const {
    problem,
    hint,
    token = keyword,
    code = 'missing-argument',
  } = findFault(keyword, body, escapeCharacter);
  if (problem === 'trigger') return ofTrigger(explain(body, joined, escapeCharacter));
  return {
    severity: 'error',
    code,
    message: problem,
    range: joined.range(token.offset, token.offset + token.text.length),
    ...(hint === undefined ? {} : { hint }),
  };
}

interface Fault {
  /** The message; `trigger`: the fault is in the trigger of an ONBUILD. */
  readonly problem: string;
  readonly hint?: string;
  /** To blame; absent: the keyword. */
  readonly token?: Token;
  readonly code?: string;
}

function findFault(keyword: Token, body: readonly Token[], escapeCharacter: EscapeCharacter): Fault {
  const name = keyword.type;
  const mixed = body.find((token) => token.type === 'mixedArray');
  if (mixed !== undefined) {
    return {
      problem: 'when using JSON array syntax, arrays must be comprised of strings only',
      hint: 'put every element in double quotes',
      code: 'json-not-strings',
      token: mixed,
    };
  }
  switch (name) {
    case 'unknown':
      return unknownInstruction(keyword, escapeCharacter);
    case 'FROM':
      return fromFault(body);
    case 'ONBUILD':
      return onbuildFault(body);
    case 'HEALTHCHECK':
      return healthcheckFault(body);
    case 'COPY':
    case 'ADD':
      return {
        problem:
          body.length === 0
            ? `${name} requires at least two arguments`
            : `${name} requires at least two arguments, but only one was provided. Destination could not be determined`,
        hint: `write ${name} <source>... <destination>`,
      };
    case 'ENV':
    case 'LABEL':
      return {
        ...(body.length === 0
          ? { problem: `${name} requires at least one argument` }
          : { problem: `${name} must have two arguments`, code: 'missing-equals' }),
        hint: `write ${name} name=value`,
      };
    case 'SHELL':
      return shellFault(body);
    case 'WORKDIR':
    case 'USER':
    case 'STOPSIGNAL':
    case 'MAINTAINER':
      return { problem: `${name} requires exactly one argument` };
    default:
      return { problem: `${name} requires at least one argument` };
  }
}

function unknownInstruction(keyword: Token, escapeCharacter: EscapeCharacter): Fault {
  const near = nearest(keyword.text, INSTRUCTIONS);
  return {
    problem: `unknown instruction: ${keyword.text}`,
    hint:
      near === undefined
        ? `if this belongs to the line above, end that line with ${escapeCharacter}`
        : `did you mean ${near}?`,
    code: 'unknown-instruction',
  };
}

function fromFault(body: readonly Token[]): Fault {
  const [, second] = body;
  const fault = { problem: 'FROM requires either one or three arguments', code: 'from-arguments' };
  if (second === undefined) return { ...fault, hint: 'write FROM <image>, or FROM <image> AS <name>' };
  const hint =
    second.type === 'as' && body.length === 2
      ? 'the name of the stage is missing after AS'
      : second.type === 'as'
        ? 'the name of a stage is one word'
        : `write FROM ${body[0]?.text ?? ''} AS ${second.text} to name the stage`;
  return { ...fault, hint, token: second };
}

function onbuildFault(body: readonly Token[]): Fault {
  const [trigger] = body;
  switch (trigger?.type) {
    case undefined:
      return {
        problem: 'ONBUILD requires at least one argument',
        hint: 'write an instruction after it: ONBUILD COPY . /app',
      };
    case 'ONBUILD':
      return {
        problem: "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed",
        code: 'onbuild-chained',
        token: trigger,
      };
    case 'FROM':
    case 'MAINTAINER':
      return {
        problem: `${trigger.type} isn't allowed as an ONBUILD trigger`,
        code: 'onbuild-trigger',
        token: trigger,
      };
    default:
      return { problem: 'trigger' };
  }
}

function healthcheckFault(body: readonly Token[]): Fault {
  const [type] = body;
  if (type === undefined) {
    return {
      problem: 'HEALTHCHECK requires at least one argument',
      hint: 'write HEALTHCHECK CMD <command>, or HEALTHCHECK NONE',
    };
  }
  switch (type.type) {
    case 'none':
      return { problem: 'HEALTHCHECK NONE takes no arguments', code: 'healthcheck-none', token: type };
    case 'cmd':
      return { problem: 'missing command after HEALTHCHECK CMD', token: type };
    default:
      return {
        problem: `unknown type ${JSON.stringify(type.text)} in HEALTHCHECK`,
        hint: `write HEALTHCHECK CMD ${type.text} …, or HEALTHCHECK NONE`,
        code: 'healthcheck-type',
        token: type,
      };
  }
}

function shellFault(body: readonly Token[]): Fault {
  const [text] = body;
  if (text === undefined || text.type === 'open') {
    return {
      problem: 'SHELL requires at least one argument',
      hint: 'write SHELL ["/bin/sh", "-c"]',
    };
  }
  const words = text.text.split(/[\s[\],'"]+/).flatMap((word) => (word === '' ? [] : [JSON.stringify(word)]));
  return {
    problem: 'SHELL requires the arguments to be in JSON form',
    hint: `write SHELL [${words.join(', ')}]`,
    code: 'shell-not-json',
    token: text,
  };
}
