// The suite's own tools: a framer that misjudged a boundary would blame the server.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FAMILIES } from '../families/index.ts';
import { KeptList } from './compare.ts';
import { replyEnd } from './framer.ts';
import { about, normalised, roundedTo, sorted, sortedPairs } from './normalise.ts';
import { pretty } from './pretty.ts';
import { drawSequence } from './random.ts';
import { parseReply, writeReply } from './reply.ts';
import { words } from './words.ts';

const REPLIES = [
  '+OK\r\n',
  '-ERR no\r\n',
  ':-5\r\n',
  '$-1\r\n',
  '$0\r\n\r\n',
  '$4\r\n\r\n\r\n\r\n',
  '*-1\r\n',
  '*0\r\n',
  '*3\r\n:1\r\n*1\r\n$1\r\na\r\n_\r\n',
  '_\r\n',
  '#t\r\n',
  ',1.5\r\n',
  '(12345678901234567890\r\n',
  '!5\r\nERR x\r\n',
  '=7\r\ntxt:abc\r\n',
  '%2\r\n+a\r\n:1\r\n+b\r\n~1\r\n+c\r\n',
  '~2\r\n:1\r\n:2\r\n',
  '>2\r\n+message\r\n+x\r\n',
  '|1\r\n+ttl\r\n:5\r\n*1\r\n+value\r\n',
];

test('every type of reply ends where the next begins', () => {
  for (const reply of REPLIES) {
    const bytes = Buffer.from(`${reply}+next\r\n`, 'latin1');
    assert.equal(replyEnd(bytes), reply.length, JSON.stringify(reply));
    for (let cut = 0; cut < reply.length; cut++) {
      assert.equal(replyEnd(bytes.subarray(0, cut)), -1, `${JSON.stringify(reply)} cut at ${cut}`);
    }
  }
  assert.throws(() => replyEnd(Buffer.from('HTTP/1.1 400\r\n')), /unknown reply type/);
});

test('a reply parsed and written is the same bytes', () => {
  for (const reply of REPLIES) {
    assert.equal(writeReply(parseReply(reply)), reply);
    assert.doesNotMatch(pretty(reply), /unframed/);
  }
});

test('normalisers', () => {
  assert.equal(normalised(':99\r\n', about(100, 2)), ':about 100\r\n');
  assert.equal(normalised(':90\r\n', about(100, 2)), ':90\r\n');
  assert.equal(normalised('-ERR x\r\n', about(100, 2)), '-ERR x\r\n');
  assert.equal(normalised(':-1\r\n', roundedTo(1000)), ':-1\r\n');
  assert.equal(normalised(':4999\r\n', roundedTo(1000)), ':about 5000\r\n');
  assert.equal(normalised('*2\r\n+b\r\n+a\r\n', sorted), '*2\r\n+a\r\n+b\r\n');
  assert.equal(normalised('%2\r\n+b\r\n:1\r\n+a\r\n:2\r\n', sortedPairs), '%2\r\n+a\r\n:2\r\n+b\r\n:1\r\n');
  assert.equal(normalised('<closed>', sorted), '<closed>');
});

test('command lines', () => {
  const split = (line: string) => words(line).map((word) => word.toString('latin1'));
  assert.deepEqual(split('SET k v'), ['SET', 'k', 'v']);
  assert.deepEqual(split('  SET  "a b" \'c "d"\' ""'), ['SET', 'a b', 'c "d"', '']);
  assert.deepEqual(split('SET "\\x00\\xff\\r\\n\\"" x'), ['SET', '\x00\xff\r\n"', 'x']);
  assert.throws(() => words('SET "a'), /unbalanced/);
});

test('a seed draws the same commands every time', () => {
  assert.deepEqual(drawSequence(7), drawSequence(7));
  assert.notDeepEqual(drawSequence(7), drawSequence(8));
});

test('the list of kept differences knows which entries were of use', () => {
  const kept = new KeptList([
    { family: 'strings', sequence: 'a', step: /^SET/, reason: 'first' },
    { family: 'strings', sequence: 'b', reason: 'second' },
    { family: 'keys', reason: 'third' },
  ]);
  const difference = { family: 'strings', sequence: 'a', protocol: 2 as const, step: 1, expected: '', actual: '' };
  assert.equal(kept.reasonFor({ ...difference, label: 'SET k v' }), 'first');
  assert.equal(kept.reasonFor({ ...difference, label: 'GET k' }), undefined);
  assert.deepEqual(
    kept.unused(new Set(['strings'])).map((entry) => entry.reason),
    ['second'],
  );
});

test('sequences have names of their own, for the recorded replies are filed under them', () => {
  for (const family of FAMILIES) {
    const names = family.sequences.map((sequence) => sequence.name);
    assert.deepEqual(
      names.filter((name, i) => names.indexOf(name) !== i),
      [],
      family.name,
    );
  }
});
