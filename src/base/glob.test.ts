import assert from 'node:assert/strict';
import { test } from 'node:test';
import { globMatch, isPattern } from './glob.ts';

const cases: [pattern: string, text: string, matches: boolean][] = [
  ['*', '', true],
  ['', '', true],
  ['', 'a', false],
  ['h?llo', 'hello', true],
  ['h?llo', 'hllo', false],
  ['h*llo', 'heeeello', true],
  ['*a*b*', 'xxaxxbxx', true],
  ['*ab', 'aab', true],
  ['h[ae]llo', 'hallo', true],
  ['h[ae]llo', 'hillo', false],
  ['h[^e]llo', 'hallo', true],
  ['h[^e]llo', 'hello', false],
  ['h[a-c]llo', 'hbllo', true],
  ['h[c-a]llo', 'hbllo', true],
  ['[\\]]', ']', true],
  ['[]', 'a', false],
  ['[^]', 'a', true],
  ['[a', 'a', true],
  ['a\\*', 'a*', true],
  ['a\\*', 'ab', false],
  ['a\\', 'a\\', true],
  ['a**', 'a', true],
];

test('patterns match as in Redis', () => {
  for (const [pattern, text, matches] of cases)
    assert.equal(globMatch(pattern, text), matches, `${pattern} on ${text}`);
});

test('case can be ignored', () => {
  assert.ok(globMatch('MAX*', 'maxmemory', true));
  assert.ok(globMatch('[A-C]x', 'bX', true));
  assert.ok(!globMatch('MAX*', 'maxmemory'));
});

test('a hostile pattern takes no time', () => {
  assert.ok(!globMatch('*a'.repeat(50), `${'a'.repeat(2000)}b`));
});

test('patterns are told from names', () => {
  assert.ok(isPattern('a*') && isPattern('a?') && isPattern('[a]'));
  assert.ok(!isPattern('maxmemory') && !isPattern('a\\'));
});
