// Generated automatically by nearley, version 2.20.1
// http://github.com/Hardmath123/nearley
// Bypasses TS6133. Allow declared but unused functions.
// @ts-ignore
function id(d: any[]): any { return d[0]; }
declare var FROM: any;
declare var as: any;
declare var MAINTAINER: any;
declare var text: any;
declare var ONBUILD: any;
declare var RUN: any;
declare var CMD: any;
declare var ENTRYPOINT: any;
declare var word: any;
declare var open: any;
declare var string: any;
declare var close: any;
declare var COPY: any;
declare var ADD: any;
declare var legacyKey: any;
declare var ENV: any;
declare var LABEL: any;
declare var ARG: any;
declare var EXPOSE: any;
declare var VOLUME: any;
declare var WORKDIR: any;
declare var USER: any;
declare var STOPSIGNAL: any;
declare var SHELL: any;
declare var HEALTHCHECK: any;
declare var none: any;
declare var cmd: any;
declare var flag: any;
declare var pair: any;

import { append, first, tokenTypes as lexer } from './syntax.ts';

interface NearleyToken {
  value: any;
  [key: string]: any;
};

interface NearleyLexer {
  reset: (chunk: string, info: any) => void;
  next: () => NearleyToken | undefined;
  save: () => any;
  formatError: (token: never) => string;
  has: (tokenType: string) => boolean;
};

interface NearleyRule {
  name: string;
  symbols: NearleySymbol[];
  postprocess?: (d: any[], loc?: number, reject?: {}) => any;
};

type NearleySymbol = string | { literal: any } | { test: (token: any) => boolean };

interface Grammar {
  Lexer: NearleyLexer | undefined;
  ParserRules: NearleyRule[];
  ParserStart: string;
};

const grammar: Grammar = {
  Lexer: lexer,
  ParserRules: [
    {"name": "instruction", "symbols": ["from"], "postprocess": (d) => d[0]},
    {"name": "instruction", "symbols": ["maintainer"], "postprocess": (d) => d[0]},
    {"name": "instruction", "symbols": ["onbuild"], "postprocess": (d) => d[0]},
    {"name": "instruction", "symbols": ["trigger"], "postprocess": (d) => d[0]},
    {"name": "from", "symbols": [(lexer.has("FROM") ? {type: "FROM"} : FROM), "flags", "name"], "postprocess": (d) => ({ kind: 'from', keyword: d[0], flags: d[1], image: d[2] })},
    {"name": "from", "symbols": [(lexer.has("FROM") ? {type: "FROM"} : FROM), "flags", "name", (lexer.has("as") ? {type: "as"} : as), "name"], "postprocess": (d) => ({ kind: 'from', keyword: d[0], flags: d[1], image: d[2], asKeyword: d[3], as: d[4] })},
    {"name": "maintainer", "symbols": [(lexer.has("MAINTAINER") ? {type: "MAINTAINER"} : MAINTAINER), "flags", (lexer.has("text") ? {type: "text"} : text)], "postprocess": (d) => ({ kind: 'word', keyword: d[0], flags: d[1], word: d[2] })},
    {"name": "onbuild", "symbols": [(lexer.has("ONBUILD") ? {type: "ONBUILD"} : ONBUILD), "flags", "trigger"], "postprocess": (d) => ({ kind: 'onbuild', keyword: d[0], flags: d[1], trigger: d[2] })},
    {"name": "trigger", "symbols": ["run"], "postprocess": (d) => d[0]},
    {"name": "trigger", "symbols": ["copy"], "postprocess": (d) => d[0]},
    {"name": "trigger", "symbols": ["env"], "postprocess": (d) => d[0]},
    {"name": "trigger", "symbols": ["arg"], "postprocess": (d) => d[0]},
    {"name": "trigger", "symbols": ["words"], "postprocess": (d) => d[0]},
    {"name": "trigger", "symbols": ["word"], "postprocess": (d) => d[0]},
    {"name": "trigger", "symbols": ["shell"], "postprocess": (d) => d[0]},
    {"name": "trigger", "symbols": ["healthcheck"], "postprocess": (d) => d[0]},
    {"name": "run", "symbols": ["runnable", "flags"], "postprocess": (d) => ({ kind: 'command', keyword: d[0], flags: d[1] })},
    {"name": "run", "symbols": ["runnable", "flags", "command"], "postprocess": (d) => ({ kind: 'command', keyword: d[0], flags: d[1], command: d[2] })},
    {"name": "runnable", "symbols": [(lexer.has("RUN") ? {type: "RUN"} : RUN)], "postprocess": (d) => d[0]},
    {"name": "runnable", "symbols": [(lexer.has("CMD") ? {type: "CMD"} : CMD)], "postprocess": (d) => d[0]},
    {"name": "runnable", "symbols": [(lexer.has("ENTRYPOINT") ? {type: "ENTRYPOINT"} : ENTRYPOINT)], "postprocess": (d) => d[0]},
    {"name": "copy", "symbols": ["copier", "flags", "paths", (lexer.has("word") ? {type: "word"} : word)], "postprocess": (d) => ({ kind: 'copy', keyword: d[0], flags: d[1], sources: d[2], destination: d[3] })},
    {"name": "copy", "symbols": ["copier", "flags", (lexer.has("open") ? {type: "open"} : open), "strings", (lexer.has("string") ? {type: "string"} : string), (lexer.has("close") ? {type: "close"} : close)], "postprocess": (d) => ({ kind: 'copy', keyword: d[0], flags: d[1], sources: d[3], destination: d[4] })},
    {"name": "copier", "symbols": [(lexer.has("COPY") ? {type: "COPY"} : COPY)], "postprocess": (d) => d[0]},
    {"name": "copier", "symbols": [(lexer.has("ADD") ? {type: "ADD"} : ADD)], "postprocess": (d) => d[0]},
    {"name": "env", "symbols": ["keyed", "flags", "pairs"], "postprocess": (d) => ({ kind: 'pairs', keyword: d[0], flags: d[1], pairs: d[2] })},
    {"name": "env", "symbols": ["keyed", "flags", (lexer.has("legacyKey") ? {type: "legacyKey"} : legacyKey), (lexer.has("text") ? {type: "text"} : text)], "postprocess": (d) => ({ kind: 'legacyPair', keyword: d[0], flags: d[1], key: d[2], value: d[3] })},
    {"name": "keyed", "symbols": [(lexer.has("ENV") ? {type: "ENV"} : ENV)], "postprocess": (d) => d[0]},
    {"name": "keyed", "symbols": [(lexer.has("LABEL") ? {type: "LABEL"} : LABEL)], "postprocess": (d) => d[0]},
    {"name": "arg", "symbols": [(lexer.has("ARG") ? {type: "ARG"} : ARG), "flags", "pairs"], "postprocess": (d) => ({ kind: 'arg', keyword: d[0], flags: d[1], args: d[2] })},
    {"name": "words", "symbols": [(lexer.has("EXPOSE") ? {type: "EXPOSE"} : EXPOSE), "flags", "paths"], "postprocess": (d) => ({ kind: 'words', keyword: d[0], flags: d[1], words: d[2] })},
    {"name": "words", "symbols": [(lexer.has("VOLUME") ? {type: "VOLUME"} : VOLUME), "flags", "paths"], "postprocess": (d) => ({ kind: 'words', keyword: d[0], flags: d[1], words: d[2] })},
    {"name": "words", "symbols": [(lexer.has("VOLUME") ? {type: "VOLUME"} : VOLUME), "flags", (lexer.has("open") ? {type: "open"} : open), "strings", (lexer.has("close") ? {type: "close"} : close)], "postprocess": (d) => ({ kind: 'words', keyword: d[0], flags: d[1], words: d[3] })},
    {"name": "word", "symbols": ["worded", "flags", (lexer.has("text") ? {type: "text"} : text)], "postprocess": (d) => ({ kind: 'word', keyword: d[0], flags: d[1], word: d[2] })},
    {"name": "worded", "symbols": [(lexer.has("WORKDIR") ? {type: "WORKDIR"} : WORKDIR)], "postprocess": (d) => d[0]},
    {"name": "worded", "symbols": [(lexer.has("USER") ? {type: "USER"} : USER)], "postprocess": (d) => d[0]},
    {"name": "worded", "symbols": [(lexer.has("STOPSIGNAL") ? {type: "STOPSIGNAL"} : STOPSIGNAL)], "postprocess": (d) => d[0]},
    {"name": "shell", "symbols": [(lexer.has("SHELL") ? {type: "SHELL"} : SHELL), "flags", (lexer.has("open") ? {type: "open"} : open), "strings", (lexer.has("close") ? {type: "close"} : close)], "postprocess": (d) => ({ kind: 'shell', keyword: d[0], flags: d[1], args: d[3] })},
    {"name": "healthcheck", "symbols": [(lexer.has("HEALTHCHECK") ? {type: "HEALTHCHECK"} : HEALTHCHECK), "flags", (lexer.has("none") ? {type: "none"} : none)], "postprocess": (d) => ({ kind: 'healthcheck', keyword: d[0], flags: d[1] })},
    {"name": "healthcheck", "symbols": [(lexer.has("HEALTHCHECK") ? {type: "HEALTHCHECK"} : HEALTHCHECK), "flags", (lexer.has("cmd") ? {type: "cmd"} : cmd), "command"], "postprocess": (d) => ({ kind: 'healthcheck', keyword: d[0], flags: d[1], command: d[3] })},
    {"name": "command", "symbols": [(lexer.has("text") ? {type: "text"} : text)], "postprocess": (d) => ({ form: 'shell', text: d[0] })},
    {"name": "command", "symbols": [(lexer.has("open") ? {type: "open"} : open), (lexer.has("close") ? {type: "close"} : close)], "postprocess": () => ({ form: 'exec', args: undefined })},
    {"name": "command", "symbols": [(lexer.has("open") ? {type: "open"} : open), "strings", (lexer.has("close") ? {type: "close"} : close)], "postprocess": (d) => ({ form: 'exec', args: d[1] })},
    {"name": "flags", "symbols": [], "postprocess": () => undefined},
    {"name": "flags", "symbols": ["flags", (lexer.has("flag") ? {type: "flag"} : flag)], "postprocess": (d) => append(d[0], d[1])},
    {"name": "pairs", "symbols": [(lexer.has("pair") ? {type: "pair"} : pair)], "postprocess": (d) => first(d[0])},
    {"name": "pairs", "symbols": ["pairs", (lexer.has("pair") ? {type: "pair"} : pair)], "postprocess": (d) => append(d[0], d[1])},
    {"name": "paths", "symbols": [(lexer.has("word") ? {type: "word"} : word)], "postprocess": (d) => first(d[0])},
    {"name": "paths", "symbols": ["paths", (lexer.has("word") ? {type: "word"} : word)], "postprocess": (d) => append(d[0], d[1])},
    {"name": "strings", "symbols": [(lexer.has("string") ? {type: "string"} : string)], "postprocess": (d) => first(d[0])},
    {"name": "strings", "symbols": ["strings", (lexer.has("string") ? {type: "string"} : string)], "postprocess": (d) => append(d[0], d[1])},
    {"name": "name", "symbols": [(lexer.has("word") ? {type: "word"} : word)], "postprocess": (d) => d[0]},
    {"name": "name", "symbols": [(lexer.has("as") ? {type: "as"} : as)], "postprocess": (d) => d[0]}
  ],
  ParserStart: "instruction",
};

export default grammar;
