# The grammar of one Dockerfile instruction, over the tokens of lexer.ts (blanks and the commas of JSON are left out there).
# Each keyword has a rule of its own, from which its instructions are read (grammar.ts).
#
# Compiled ahead into grammar.generated.ts. Lists are left-recursive, and no two rules match the same tokens: the parser
# asserts exactly one parse. What a rule yields is a plain record of tokens (syntax.ts); ranges, flags and values are
# judged afterwards.

@preprocessor typescript

@{%
import { append, first, tokenTypes as lexer } from './syntax.ts';
%}

@lexer lexer

instruction ->
    from        {% (d) => d[0] %}
  | maintainer  {% (d) => d[0] %}
  | onbuild     {% (d) => d[0] %}
  | trigger     {% (d) => d[0] %}

from ->
    %FROM flags name            {% (d) => ({ kind: 'from', keyword: d[0], flags: d[1], image: d[2] }) %}
  | %FROM flags name %as name
      {% (d) => ({ kind: 'from', keyword: d[0], flags: d[1], image: d[2], asKeyword: d[3], as: d[4] }) %}

maintainer -> %MAINTAINER flags %text
      {% (d) => ({ kind: 'word', keyword: d[0], flags: d[1], word: d[2] }) %}

onbuild -> %ONBUILD flags trigger
      {% (d) => ({ kind: 'onbuild', keyword: d[0], flags: d[1], trigger: d[2] }) %}

# What may stand after ONBUILD.
trigger ->
    run         {% (d) => d[0] %}
  | copy        {% (d) => d[0] %}
  | env         {% (d) => d[0] %}
  | arg         {% (d) => d[0] %}
  | words       {% (d) => d[0] %}
  | word        {% (d) => d[0] %}
  | shell       {% (d) => d[0] %}
  | healthcheck {% (d) => d[0] %}

run ->
    runnable flags          {% (d) => ({ kind: 'command', keyword: d[0], flags: d[1] }) %}
  | runnable flags command  {% (d) => ({ kind: 'command', keyword: d[0], flags: d[1], command: d[2] }) %}
runnable ->
    %RUN        {% (d) => d[0] %}
  | %CMD        {% (d) => d[0] %}
  | %ENTRYPOINT {% (d) => d[0] %}

# At least one source and a destination.
copy ->
    copier flags paths %word
      {% (d) => ({ kind: 'copy', keyword: d[0], flags: d[1], sources: d[2], destination: d[3] }) %}
  | copier flags %open strings %string %close
      {% (d) => ({ kind: 'copy', keyword: d[0], flags: d[1], sources: d[3], destination: d[4] }) %}
copier ->
    %COPY {% (d) => d[0] %}
  | %ADD  {% (d) => d[0] %}

env ->
    keyed flags pairs
      {% (d) => ({ kind: 'pairs', keyword: d[0], flags: d[1], pairs: d[2] }) %}
  | keyed flags %legacyKey %text
      {% (d) => ({ kind: 'legacyPair', keyword: d[0], flags: d[1], key: d[2], value: d[3] }) %}
keyed ->
    %ENV   {% (d) => d[0] %}
  | %LABEL {% (d) => d[0] %}

arg -> %ARG flags pairs         {% (d) => ({ kind: 'arg', keyword: d[0], flags: d[1], args: d[2] }) %}

words ->
    %EXPOSE flags paths         {% (d) => ({ kind: 'words', keyword: d[0], flags: d[1], words: d[2] }) %}
  | %VOLUME flags paths         {% (d) => ({ kind: 'words', keyword: d[0], flags: d[1], words: d[2] }) %}
  | %VOLUME flags %open strings %close
      {% (d) => ({ kind: 'words', keyword: d[0], flags: d[1], words: d[3] }) %}

word -> worded flags %text      {% (d) => ({ kind: 'word', keyword: d[0], flags: d[1], word: d[2] }) %}
worded ->
    %WORKDIR    {% (d) => d[0] %}
  | %USER       {% (d) => d[0] %}
  | %STOPSIGNAL {% (d) => d[0] %}

shell -> %SHELL flags %open strings %close
      {% (d) => ({ kind: 'shell', keyword: d[0], flags: d[1], args: d[3] }) %}

healthcheck ->
    %HEALTHCHECK flags %none    {% (d) => ({ kind: 'healthcheck', keyword: d[0], flags: d[1] }) %}
  | %HEALTHCHECK flags %cmd command
      {% (d) => ({ kind: 'healthcheck', keyword: d[0], flags: d[1], command: d[3] }) %}

command ->
    %text                       {% (d) => ({ form: 'shell', text: d[0] }) %}
  | %open %close                {% () => ({ form: 'exec', args: undefined }) %}
  | %open strings %close        {% (d) => ({ form: 'exec', args: d[1] }) %}

flags ->
    null                        {% () => undefined %}
  | flags %flag                 {% (d) => append(d[0], d[1]) %}

pairs ->
    %pair                       {% (d) => first(d[0]) %}
  | pairs %pair                 {% (d) => append(d[0], d[1]) %}

paths ->
    %word                       {% (d) => first(d[0]) %}
  | paths %word                 {% (d) => append(d[0], d[1]) %}

strings ->
    %string                     {% (d) => first(d[0]) %}
  | strings %string             {% (d) => append(d[0], d[1]) %}

# An image or a stage may be called "as".
name ->
    %word                       {% (d) => d[0] %}
  | %as                         {% (d) => d[0] %}
