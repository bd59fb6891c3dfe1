/** The handshake as a state machine: who gets through, and every way not to. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { SeededRandom } from '../sim/random.ts';
import {
  type Answer,
  busKey,
  closeReason,
  commonVersion,
  encodeHello,
  Handshake,
  type Hello,
  KIND_HELLO,
  KIND_PROOF,
  NONCE_BYTES,
  PROOF_BYTES,
  type Role,
  type Versions,
} from './handshake.ts';

const random = new SeededRandom(1);
const idOf = (i: number) => i.toString(16).padStart(40, '0');
const helloOf = (i: number, more: Partial<Hello> = {}): Hello => ({
  nodeId: idOf(i),
  clusterId: '',
  session: i,
  bus: `10.0.0.${i}:17000`,
  client: `10.0.0.${i}:7000`,
  ...more,
});

interface Options {
  secret?: string;
  versions?: Versions;
  hello?: Partial<Hello>;
}

function end(role: Role, i: number, { secret = 's', versions = [1, 1], hello = {} }: Options = {}): Handshake {
  return new Handshake(role, busKey(secret), versions, helloOf(i, hello), random.bytes(NONCE_BYTES));
}

type Sent = { kind: number; payload: Buffer };

function give(to: Handshake, sent: Sent): Answer {
  return to.receive(sent.kind, sent.payload, 0, sent.payload.length);
}

/** Runs both ends; the last answer of each, and what was sent. */
function run(dialler: Handshake, acceptor: Handshake) {
  const sent: Sent[] = [];
  const last: Record<Role, Answer | null> = { dial: null, accept: null };
  let next: Sent | null = dialler.start();
  let to = acceptor;
  while (next !== null) {
    sent.push(next);
    const answer = give(to, next);
    last[to.role] = answer;
    if (answer.refusal !== null && to.role === 'dial') break;
    next = answer.reply;
    to = to === acceptor ? dialler : acceptor;
  }
  return { dial: last.dial!, accept: last.accept!, sent };
}

test('both get through, and know each other', () => {
  const [a, b] = [end('dial', 1), end('accept', 2, { hello: { clusterId: 'c' } })];
  const { dial, accept, sent } = run(a, b);
  assert.ok(dial.proven && accept.proven);
  assert.deepEqual([a.peer, b.peer], [helloOf(2, { clusterId: 'c' }), helloOf(1)]);
  assert.deepEqual(
    sent.map((s) => s.kind),
    [KIND_HELLO, KIND_HELLO, KIND_PROOF, KIND_PROOF],
  );
  assert.ok(!sent[2].payload.equals(sent[3].payload));
});

test('versions: the highest that both speak, or a refusal that both understand', () => {
  assert.equal(commonVersion([1, 1], [1, 2]), 1);
  assert.equal(commonVersion([1, 2], [2, 3]), 2);
  assert.equal(commonVersion([1, 1], [2, 2]), 0);
  const [a, b] = [end('dial', 1, { versions: [1, 2] }), end('accept', 2, { versions: [2, 3] })];
  assert.ok(run(a, b).dial.proven);
  assert.deepEqual([a.version, b.version], [2, 2]);
  const { dial, accept } = run(end('dial', 1), end('accept', 2, { versions: [2, 3] }));
  assert.match(accept.refusal!.why, /it speaks version 1, this node versions 2 to 3/);
  assert.match(dial.refusal!.why, /it speaks versions 2 to 3, this node version 1/);
});

test('other secrets are refused, whichever end has which', () => {
  for (const [x, y] of [
    ['a', 'b'],
    ['', 'b'],
    ['a', ''],
  ]) {
    const { accept, dial, sent } = run(end('dial', 1, { secret: x }), end('accept', 2, { secret: y }));
    assert.equal(accept.refusal?.reason, 'secret');
    assert.ok(!dial.proven && sent.length === 3, 'the acceptor has shown no proof');
  }
  assert.ok(run(end('dial', 1, { secret: '' }), end('accept', 2, { secret: '' })).dial.proven);
});

test('clusters: none meets any, two different ones are refused by both ends', () => {
  const of = (a: string, b: string) =>
    run(end('dial', 1, { hello: { clusterId: a } }), end('accept', 2, { hello: { clusterId: b } }));
  for (const [a, b] of [
    ['', ''],
    ['x', ''],
    ['', 'x'],
    ['x', 'x'],
  ])
    assert.ok(of(a, b).dial.proven);
  const { dial, accept } = of('x', 'y');
  assert.deepEqual([dial.refusal?.reason, accept.refusal?.reason], ['cluster', 'cluster']);
});

test('two nodes with one id are refused', () => {
  const { dial, accept } = run(end('dial', 1), end('accept', 1));
  assert.deepEqual([dial.refusal?.reason, accept.refusal?.reason], ['sameId', 'sameId']);
});

test('what was said once is worth nothing a second time', () => {
  const { sent } = run(end('dial', 1), end('accept', 2));
  const again = end('accept', 2);
  assert.equal(give(again, sent[0]).refusal, null);
  assert.equal(give(again, sent[2]).refusal?.reason, 'secret');
  const dialler = end('dial', 1);
  assert.equal(give(dialler, sent[1]).refusal, null);
  assert.equal(give(dialler, sent[3]).refusal?.reason, 'secret');
});

test('a proof that is sent back to its author proves nothing', () => {
  const a = end('dial', 1);
  const proof = give(a, { kind: KIND_HELLO, payload: encodeHello([1, 1], random.bytes(32), helloOf(9)) }).reply!;
  assert.equal(give(a, proof).refusal?.reason, 'secret');
  const b = end('dial', 1);
  assert.equal(give(b, b.start()).refusal?.reason, 'sameId');
});

test('a proof covers every byte of both hellos', () => {
  const size = encodeHello([1, 1], random.bytes(32), helloOf(1)).length;
  for (const which of [0, 1]) {
    for (let i = 0; i < size; i++) {
      const [a, b] = [end('dial', 1), end('accept', 2)];
      const change = (s: Sent): Sent => {
        const payload = Buffer.from(s.payload);
        payload[i] ^= 1;
        return { kind: s.kind, payload };
      };
      const first = a.start();
      const second = give(b, which === 0 ? change(first) : first).reply;
      const third = second === null ? null : give(a, which === 1 ? change(second) : second).reply;
      if (third !== null) assert.ok(!give(b, third).proven, `byte ${i} of hello ${which}`);
    }
  }
});

test('what a later version adds to its hello is covered and otherwise left alone', () => {
  const key = busKey('s');
  const a = end('dial', 1);
  const b = end('accept', 2);
  const longer = Buffer.concat([a.start().payload, Buffer.from('more')]);
  assert.notEqual(give(b, { kind: KIND_HELLO, payload: longer }).reply, null);
  assert.deepEqual(b.peer, helloOf(1));
  assert.equal(key.length, 32);
});

test('anything else is refused and never proven', () => {
  const bytes = fc.uint8Array({ maxLength: 200 }).map((b) => Buffer.from(b));
  const cut = fc.nat({ max: 200 }).map((n) => end('dial', 3).start().payload.subarray(0, n));
  const frames = fc.array(fc.record({ kind: fc.nat({ max: 20 }), payload: fc.oneof(bytes, cut) }), { maxLength: 5 });
  fc.assert(
    fc.property(frames, fc.constantFrom<Role>('dial', 'accept'), fc.boolean(), (stream, role, after) => {
      const me = end(role, 2);
      if (after) give(me, { kind: KIND_HELLO, payload: encodeHello([1, 1], random.bytes(32), helloOf(9)) });
      for (const f of stream) assert.ok(!give(me, f).proven);
    }),
    { numRuns: 500 },
  );
  for (const n of [0, 31, 33, 64]) {
    const me = end('accept', 2);
    give(me, end('dial', 1).start());
    assert.equal(give(me, { kind: KIND_PROOF, payload: Buffer.alloc(n) }).refusal?.reason, 'secret');
  }
  assert.equal(PROOF_BYTES, 32);
  assert.equal(closeReason(200), 'protocol');
});
