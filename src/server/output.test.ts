import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Ticket } from '../cluster/replicator.ts';
import type { Connection } from '../ports/transport.ts';
import { Client } from './client.ts';
import { Output } from './output.ts';
import { Sla } from './sla.ts';

function setUp() {
  const ends: (() => void)[] = [];
  const output = new Output((run) => ends.push(run));
  const clients: { client: Client; sent: () => string }[] = [];
  const connect = () => {
    let text = '';
    const connection = {
      write(buf: Buffer, start: number, end: number) {
        text += buf.latin1Slice(start, end);
        return true;
      },
      pending: () => 0,
      end() {},
    } as unknown as Connection;
    const client = new Client(clients.length + 1, connection, 0);
    clients.push({ client, sent: () => text });
    return clients.at(-1)!;
  };
  const endTick = () => {
    for (const run of ends.splice(0)) run();
  };
  return { output, connect, endTick };
}

test('what is written for another client in the middle of a reply goes to that one alone', () => {
  const { output, connect, endTick } = setUp();
  const [a, b] = [connect(), connect()];
  const w = output.select(a.client);
  w.raw('+a1\r\n');
  output.select(b.client).raw('+b1\r\n');
  output.resume(a.client);
  w.raw('+a2\r\n');
  endTick();
  assert.equal(a.sent(), '+a1\r\n+a2\r\n');
  assert.equal(b.sent(), '+b1\r\n');
});

test('replies behind a hole wait for it, and nobody else does', () => {
  const { output, connect, endTick } = setUp();
  const [a, b] = [connect(), connect()];
  output.select(a.client).raw('+1\r\n');
  const hole = output.hole(a.client);
  output.select(a.client).raw('+3\r\n');
  output.select(b.client).raw('+b\r\n');
  endTick();
  output.drainLate();
  assert.equal(a.sent(), '+1\r\n');
  assert.equal(b.sent(), '+b\r\n');
  output.select(a.client).raw('+4\r\n');
  endTick();
  assert.equal(a.sent(), '+1\r\n');
  output.fill(hole, Buffer.from('+2\r\n'));
  output.fill(hole, Buffer.from('+twice\r\n'));
  endTick();
  assert.equal(a.sent(), '+1\r\n+2\r\n+3\r\n+4\r\n');
});

test('a tick is held for its ticket, those behind it too, and a patch takes the place of one reply', () => {
  const { output, connect, endTick } = setUp();
  const [a, b] = [connect(), connect()];
  const ticket = new Ticket(1);
  let await_: Ticket | null = ticket;
  output.ticketToAwait = () => await_;
  output.select(a.client).raw('+1\r\n');
  const start = output.w.pos;
  output.select(a.client).raw('+old\r\n');
  const end = output.w.pos;
  output.select(a.client).raw('+3\r\n');
  endTick();
  // a tick without operations waits for the last ticket too
  output.select(b.client).raw('+b\r\n');
  endTick();
  const hole = output.patch(ticket, a.client, start, end);
  assert.ok(hole);
  await_ = null;
  ticket.done = true;
  output.releaseReady();
  endTick();
  output.drainLate();
  assert.equal(a.sent(), '+1\r\n');
  assert.equal(b.sent(), '+b\r\n');
  output.fill(hole, Buffer.from('+2\r\n'));
  endTick();
  assert.equal(a.sent(), '+1\r\n+2\r\n+3\r\n');
  assert.equal(output.patch(ticket, a.client, start, end), null, 'it has gone out');
});

test('a reply that is patched or filled later counts as late as it is, and once', () => {
  const { output, connect, endTick } = setUp();
  let now = 1000;
  let commands = 0;
  const sla = new Sla(
    () => now,
    () => commands,
  );
  sla.limitMs = 300;
  output.sla = sla;
  const a = connect();
  const ticket = new Ticket(1);
  output.ticketToAwait = () => (ticket.done ? null : ticket);
  output.select(a.client).raw('+1\r\n');
  const hole = output.hole(a.client);
  const start = output.w.pos;
  output.select(a.client).raw('+old\r\n');
  const end = output.w.pos;
  commands += 3;
  now += 1;
  endTick();
  const patch = output.patch(ticket, a.client, start, end);
  assert.ok(patch);
  ticket.done = true;
  output.releaseReady();
  endTick();
  assert.deepEqual([sla.requests, sla.within, sla.percentile(100) < 1.2], [3, 3, true]);
  now += 99;
  output.fill(hole, Buffer.from('+2\r\n'));
  output.fill(hole, Buffer.from('+2\r\n'));
  now += 300;
  output.fill(patch, Buffer.from('+3\r\n'));
  endTick();
  assert.equal(a.sent(), '+1\r\n+2\r\n+3\r\n');
  assert.deepEqual([sla.requests, sla.within, sla.recent(60)], [3, 2, 3]);
  // one each at 1, 100 and 400 ms, to an eighth
  for (const [percent, ms] of [
    [33, 1],
    [66, 100],
    [100, 400],
  ]) {
    const found = sla.percentile(percent);
    assert.ok(found >= ms && found <= ms * 1.125, `${found} for ${ms}`);
  }
});
