/** Tokens: whole ones come back as they went, and nothing else is taken. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { TOKEN_BAD, TOKEN_FOREIGN, TOKEN_OTHER_KEY } from '../base/errors.ts';
import { actorNumber } from './actors.ts';
import { Context } from './context.ts';
import { TokenMint } from './token.ts';

const mint = new TokenMint('0011223344556677', 'ab'.repeat(32));
const contents = () => {
  const context = Context.of(actorNumber('aaaaaaaa'), 3, 9);
  context.add(actorNumber('bbbbbbbb'), 100, 2 ** 52);
  return {
    context,
    gone: [{ field: 's', actor: actorNumber('cccccccc'), hlc: 77 }],
    sums: new Map([['run', { hlc: 5, sum: '-12.5' }]]),
  };
};

test('a token comes back as it went', () => {
  const back = mint.open(3, 'key', mint.issue(3, 'key', contents()));
  assert.ok(back.context.equals(contents().context));
  assert.deepEqual(back.gone, contents().gone);
  assert.deepEqual(back.sums, contents().sums);
});

test('damaged, truncated and forged tokens are refused, each character counts', () => {
  const token = mint.issue(0, 'key', contents());
  for (let i = 0; i < token.length; i++) {
    const other = token[i] === 'A' ? 'B' : 'A';
    assert.throws(
      () => mint.open(0, 'key', token.slice(0, i) + other + token.slice(i + 1)),
      (e) => e === TOKEN_BAD || e === TOKEN_FOREIGN,
    );
    assert.throws(
      () => mint.open(0, 'key', token.slice(0, i)),
      (e) => e === TOKEN_BAD,
    );
  }
  fc.assert(
    fc.property(fc.string(), (s) => {
      assert.throws(
        () => mint.open(0, 'key', s),
        (e) => e === TOKEN_BAD,
      );
      assert.throws(
        () => mint.open(0, 'key', `g1.${s}`),
        (e) => e === TOKEN_BAD || e === TOKEN_FOREIGN,
      );
    }),
  );
});

test('tokens of another key, database or cluster are refused by name', () => {
  const token = mint.issue(0, 'key', contents());
  assert.throws(
    () => mint.open(0, 'other', token),
    (e) => e === TOKEN_OTHER_KEY,
  );
  assert.throws(
    () => mint.open(1, 'key', token),
    (e) => e === TOKEN_OTHER_KEY,
  );
  const foreign = new TokenMint('7766554433221100', 'cd'.repeat(32));
  assert.throws(
    () => foreign.open(0, 'key', token),
    (e) => e === TOKEN_FOREIGN,
  );
  const impostor = new TokenMint('0011223344556677', 'cd'.repeat(32));
  assert.throws(
    () => impostor.open(0, 'key', token),
    (e) => e === TOKEN_BAD,
  );
});
