/** What a peer is to undo: said, said again on each new link until it has been heard, and forgotten with the peer. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ByteReader } from '../base/bytes.ts';
import type { Link } from './bus.ts';
import { VOID, VOIDED } from './messages.ts';
import { Peer } from './peers.ts';
import type { Done } from './requests.ts';
import { MAX_VOIDS, Voids } from './voids.ts';

interface Frame {
  kind: number;
  bytes: Buffer;
}

/** A link that keeps what is sent, in bytes of its own. */
function link(): { link: Link; frames: Frame[] } {
  const frames: Frame[] = [];
  const send = (kind: number, buf: Buffer, start: number, end: number) => {
    frames.push({ kind, bytes: Buffer.from(buf.subarray(start, end)) });
    return true;
  };
  return { link: { send } as unknown as Link, frames };
}

const done = (reply: string, by = 'a'.repeat(40)): Done => ({ by, reply: Buffer.from(reply, 'latin1') });

interface Undone {
  tag: number;
  id: number;
  by: string;
  reply: string;
}

/** What the peer at the other end undoes when these frames reach it, and what it answers. */
function takes(frames: readonly Frame[]): { undone: Undone[]; answers: Frame[] } {
  const back = link();
  const sender = new Peer('sender');
  sender.link = back.link;
  const undone: Undone[] = [];
  const voids = new Voids();
  for (const { kind, bytes } of frames) {
    assert.equal(kind, VOID);
    voids.take(sender, new ByteReader(bytes), (tag, id, d) =>
      undone.push({ tag, id, by: d.by, reply: d.reply.latin1Slice() }),
    );
  }
  assert.equal(voids.stats.taken, undone.length);
  return { undone, answers: back.frames };
}

function hear(voids: Voids, peer: Peer, answers: readonly Frame[]): void {
  for (const { kind, bytes } of answers) {
    assert.equal(kind, VOIDED);
    voids.heard(peer, new ByteReader(bytes));
  }
}

test('a peer is told which run counts, and what its client was answered', () => {
  const voids = new Voids();
  const peer = new Peer('b');
  const up = link();
  peer.link = up.link;
  voids.say(peer, 0xfedcba98, 2 ** 52 + 1, done('$4\r\n\0\xff\r\n\r\n'));
  voids.say(peer, 7, 1, done('', 'c'.repeat(40)));
  assert.equal(up.frames.length, 2, 'at once');
  const { undone, answers } = takes(up.frames);
  assert.deepEqual(undone, [
    { tag: 0xfedcba98, id: 2 ** 52 + 1, by: 'a'.repeat(40), reply: '$4\r\n\0\xff\r\n\r\n' },
    { tag: 7, id: 1, by: 'c'.repeat(40), reply: '' },
  ]);
  assert.equal(voids.outstanding, 2, 'said is not heard');
  hear(voids, peer, answers);
  assert.equal(voids.outstanding, 0);
  assert.equal(voids.stats.said, 2);
});

test('it is said again on each new link, until it has been heard', () => {
  const voids = new Voids();
  const peer = new Peer('b');
  voids.say(peer, 1, 1, done('+OK\r\n'));
  voids.say(peer, 1, 2, done(':5\r\n'));
  assert.equal(voids.outstanding, 2, 'without a link it is kept');
  const on = () => {
    const up = link();
    peer.link = up.link;
    voids.linkUp(peer);
    return takes(up.frames);
  };
  const first = on();
  assert.deepEqual(
    first.undone.map((u) => u.id),
    [1, 2],
  );
  // the answer is lost with the link
  const second = on();
  assert.deepEqual(second.undone, first.undone);
  // an answer to one of them alone
  const one = link();
  peer.link = one.link;
  voids.say(peer, 1, 2, done(':5\r\n'));
  assert.equal(voids.outstanding, 2, 'said twice is one');
  hear(voids, peer, takes(one.frames).answers);
  const third = on();
  assert.deepEqual(
    third.undone.map((u) => u.id),
    [1],
  );
  hear(voids, peer, third.answers);
  hear(voids, peer, third.answers);
  assert.equal(voids.outstanding, 0);
  const quiet = link();
  peer.link = quiet.link;
  voids.linkUp(peer);
  assert.deepEqual(quiet.frames, [], 'nothing is left to be said');
});

test('what one peer has heard is still said to the others; who is gone is not kept for', () => {
  const voids = new Voids();
  const peers = ['b', 'c', 'd'].map((id) => new Peer(id));
  for (const peer of peers) voids.say(peer, 1, 1, done('+OK\r\n'));
  const up = link();
  peers[0].link = up.link;
  voids.linkUp(peers[0]);
  hear(voids, peers[0], takes(up.frames).answers);
  assert.equal(voids.outstanding, 2);
  voids.forget('c');
  voids.forget('nobody');
  assert.equal(voids.outstanding, 1);
  const other = link();
  peers[1].link = other.link;
  voids.linkUp(peers[1]);
  assert.deepEqual(other.frames, []);
  // an answer of somebody of whom nothing is known
  hear(voids, peers[1], takes(up.frames).answers);
  assert.equal(voids.outstanding, 1);
});

test('there are only so many for one peer, the latest; they travel in frames of bounded size', () => {
  const voids = new Voids();
  const peer = new Peer('b');
  const more = 10;
  const reply = done('+OK\r\n');
  for (let id = 1; id <= MAX_VOIDS + more; id++) voids.say(peer, 1, id, reply);
  assert.equal(voids.outstanding, MAX_VOIDS);
  const up = link();
  peer.link = up.link;
  voids.linkUp(peer);
  for (const { bytes } of up.frames) assert.ok(bytes.length > 0 && bytes.length < 65 * 1024, `${bytes.length}`);
  const { undone, answers } = takes(up.frames);
  assert.equal(undone.length, MAX_VOIDS);
  assert.equal(undone[0].id, more + 1, 'the oldest have made room');
  assert.equal(undone[MAX_VOIDS - 1].id, MAX_VOIDS + more);
  hear(voids, peer, answers);
  assert.equal(voids.outstanding, 0);
});

test('an undo that has a third node to tell leaves the answer to the second as it is', () => {
  const sayer = new Voids();
  const to = new Peer('to');
  const said = link();
  to.link = said.link;
  for (const id of [1, 2]) sayer.say(to, 7, id, done('+OK\r\n'));
  const voids = new Voids();
  const [from, third] = [new Peer('from'), new Peer('third')];
  const [back, other] = [link(), link()];
  from.link = back.link;
  third.link = other.link;
  for (const { bytes } of said.frames)
    voids.take(from, new ByteReader(bytes), (tag, id, d) => voids.say(third, tag, id, d));
  hear(sayer, to, back.frames);
  assert.equal(sayer.outstanding, 0, 'both are heard of');
  assert.equal(takes(other.frames).undone.length, 2);
});
