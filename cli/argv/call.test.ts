import { expect, test } from 'vitest';
import { UsageError } from '../../core/index.ts';
import { callOf } from './call.ts';

test.each([
  [undefined, undefined],
  ['build', undefined],
  ['check', { kind: 'check', format: 'text', ignoreStatus: false }],
  ['lint,format=json', { kind: 'check', format: 'json', ignoreStatus: false }],
  ['outline, format=text', { kind: 'outline', format: 'text', ignoreStatus: false }],
  ['targets,ignorestatus=true', { kind: 'targets', format: 'text', ignoreStatus: true }],
])('--call=%s', (call, expected) => {
  expect(callOf({ call, check: false })).toEqual(expected);
});

test('--check is --call=check, with the format of the other one', () => {
  expect(callOf({ check: true })).toEqual({ kind: 'check', format: 'text', ignoreStatus: false });
  expect(callOf({ check: true, call: 'check,format=json' })).toMatchObject({ kind: 'check', format: 'json' });
});

test.each([
  ['chek', 'invalid value "chek" for --call: use build, check, outline or targets', 'Did you mean check?'],
  ['', 'invalid value "" for --call: use build, check, outline or targets', undefined],
  ['check,outline', 'invalid value "check,outline" for --call: there are two methods', expect.anything()],
  ['check,format=xml', /the format "xml" is unknown$/, expect.anything()],
  ['check,ignorestatus=1x', /ignorestatus is true or false$/, expect.anything()],
  ['check,colour=red', /"colour" is unknown$/, expect.anything()],
])('--call=%s is refused', (call, message, hint) => {
  let refused: unknown;
  try {
    callOf({ call, check: false });
  } catch (error) {
    refused = error;
  }
  expect(refused).toBeInstanceOf(UsageError);
  expect(refused).toMatchObject({
    message: typeof message === 'string' ? message : expect.stringMatching(message),
    hint,
  });
});
