/** Patterns: the corners that Redis has, a plain matcher as oracle, and no pattern that takes for ever. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { globMatch, isPattern } from './glob.ts';

/** Pattern, text, does it match. Checked with `SET text x`, `KEYS pattern` on Redis 7.0.15. */
const FACTS: readonly [string, string, boolean][] = [
  ['*', 'abc', true],
  ['h?llo', 'hello', true],
  ['h?llo', 'hllo', false],
  ['h*llo', 'heeello', true],
  ['h[ae]llo', 'hallo', true],
  ['h[ae]llo', 'hillo', false],
  ['h[^e]llo', 'hallo', true],
  ['h[^e]llo', 'hello', false],
  ['h[a-c]llo', 'hbllo', true],
  ['h[a-c]llo', 'hdllo', false],
  ['h[c-a]llo', 'hbllo', true],
  ['h\\?llo', 'h?llo', true],
  ['h\\?llo', 'hello', false],
  ['[abc', 'a', true],
  ['[abc', 'd', false],
  ['[', '[', false],
  ['[]', 'a', false],
  ['[]', '[]', false],
  ['[^]', 'a', true],
  ['[\\]]', ']', true],
  ['[a\\-z]', '-', true],
  ['[a\\-z]', 'm', false],
  ['[a-]', '-', false],
  ['[a-]', 'b', false],
  ['[a-', 'a', true],
  ['a\\', 'a\\', true],
  ['a\\', 'a', false],
  ['**a**', 'bab', true],
  ['a*b*c', 'axxbyyc', true],
  ['a*b*c', 'axxbyy', false],
  ['?', 'ab', false],
  ['[A-Z]x', 'Bx', true],
  ['[A-Z]x', 'bx', false],
  ['a[^', 'ab', true],
  ['[a-c]*', 'cat', true],
  ['[--0]', '.', true],
  ['\\*', '*', true],
  ['\\*', 'x', false],
  ['*\\', 'x\\', true],
  ['[^a-c]', 'b', false],
  ['[^a-c]', 'd', true],
  ['ab', 'abc', false],
  ['abc', 'ab', false],
  ['', 'a', false],
];

test('patterns match what they match in Redis', () => {
  for (const [pattern, text, matches] of FACTS)
    assert.equal(globMatch(pattern, text), matches, `${pattern} on ${text}`);
  assert.ok(globMatch('*', ''));
  assert.ok(globMatch('', ''));
});

test('case matters unless it is told not to', () => {
  assert.ok(!globMatch('MAX*', 'maxmemory'));
  assert.ok(globMatch('MAX*', 'maxmemory', true));
  assert.ok(globMatch('[M-N]ax?emory', 'MAXMEMORY', true));
});

/** The slow and obvious matcher, for stars and question marks. */
function oracle(pattern: string, text: string): boolean {
  const escaped = pattern
    .replace(/[.+^${}()|[\]\\]/g, '\\$&')
    .replaceAll('*', '.*')
    .replaceAll('?', '.');
  return new RegExp(`^${escaped}$`, 's').test(text);
}

test('stars and question marks mean what they mean in a regular expression', () => {
  const from = (chars: string) => fc.array(fc.constantFrom(...chars), { maxLength: 10 }).map((c) => c.join(''));
  fc.assert(
    fc.property(from('ab*?'), from('ab'), (pattern, text) =>
      assert.equal(globMatch(pattern, text), oracle(pattern, text)),
    ),
    { numRuns: 2000 },
  );
});

test('any pattern on any text ends, and a text matches itself escaped', () => {
  fc.assert(
    fc.property(fc.string({ maxLength: 20 }), fc.string({ maxLength: 20 }), (pattern, text) => {
      globMatch(pattern, text);
      globMatch(pattern, text, true);
      assert.ok(globMatch(text.replace(/[*?[\]\\^-]/g, '\\$&'), text));
    }),
  );
});

test('a hostile pattern takes no more than length times length', () => {
  const started = process.hrtime.bigint();
  assert.ok(!globMatch(`${'*a'.repeat(500)}*b`, 'a'.repeat(10_000)));
  assert.ok(process.hrtime.bigint() - started < 2_000_000_000n);
});

test('a pattern is told from a plain name', () => {
  for (const p of ['*', 'a?', '[a]']) assert.ok(isPattern(p));
  for (const p of ['', 'maxmemory', 'a-b.c']) assert.ok(!isPattern(p));
});
