/** Sockets of simulated processes: what TCP promises and not more. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Connection } from '../ports/transport.ts';
import { CALM, CUT_NOTICE_MS, SimNetwork } from './network.ts';
import { SeededRandom } from './random.ts';
import { NodeTime, VirtualTime } from './time.ts';
import { SimTransport, SOCKET_BUFFER_BYTES } from './transport.ts';

interface Seen {
  text: string;
  events: string[];
}

function record(connection: Connection): Seen {
  const seen: Seen = { text: '', events: [] };
  connection.handler = {
    onData: (buf, start, end) => {
      seen.text += buf.latin1Slice(start, end);
    },
    onEnd: () => seen.events.push('end'),
    onDrain: () => seen.events.push('drain'),
    onClose: () => seen.events.push('close'),
  };
  return seen;
}

function write(connection: Connection, text: string): boolean {
  const bytes = Buffer.from(`..${text}..`, 'latin1');
  const taken = connection.write(bytes, 2, bytes.length - 2);
  bytes.fill(0);
  return taken;
}

async function setup() {
  const base = new VirtualTime();
  const network = new SimNetwork(base, 1, { ...CALM, delay: { kind: 'fixed', ms: 5 } });
  const process = (host: string) => {
    const time = new NodeTime(base);
    return { time, transport: new SimTransport(network, host, time, new SeededRandom(2)) };
  };
  const a = process('a');
  const b = process('b');
  const accepted: { connection: Connection; seen: Seen }[] = [];
  const listening = b.transport.listen({ host: 'b', port: 7 }, (connection) =>
    accepted.push({ connection, seen: record(connection) }),
  );
  const listener = await base.until(listening, 10);
  const connect = (port = 7) => base.until(a.transport.connect({ host: 'b', port, timeoutMs: 1000 }), 2000);
  return { base, network, process, a, b, accepted, listener, connect };
}

test('bytes come in order, whatever pieces they come in; addresses tell who is who', async () => {
  const { base, accepted, connect, listener } = await setup();
  const connection = await connect();
  const seen = record(connection);
  let sent = '';
  for (let i = 0; i < 200; i++) {
    write(connection, `${i},`);
    sent += `${i},`;
  }
  await base.advance(10);
  const [{ connection: far, seen: there }] = accepted;
  assert.equal(there.text, sent);
  write(far, 'hello');
  await base.advance(10);
  assert.equal(seen.text, 'hello');
  assert.deepEqual([listener.address, connection.remote, far.local], ['b:7', 'b:7', 'b:7']);
  assert.match(far.remote, /^a:\d+$/);
});

test('nobody there, nobody listening, no way: refused, refused, timed out', async () => {
  const { base, network, a, connect, listener } = await setup();
  await assert.rejects(connect(8), /refused/);
  await assert.rejects(base.until(a.transport.connect({ host: 'z', port: 7, timeoutMs: 1000 }), 2000), /refused/);
  network.cut('b', 'a');
  await assert.rejects(connect(), /timed out/);
  network.healAll();
  await listener.close();
  await assert.rejects(connect(), /refused/);
});

test('ending sends what there is, then closes both; half-closing goes on reading', async () => {
  const { base, accepted, connect } = await setup();
  const one = await connect();
  const seen = record(one);
  write(one, 'last words');
  one.end();
  write(one, 'too late');
  await base.advance(100);
  assert.deepEqual(accepted[0].seen, { text: 'last words', events: ['end', 'close'] });
  assert.deepEqual(seen.events, ['close']);

  const two = (await connect()) as Connection & { halfClose(): void };
  const heard = record(two);
  two.halfClose();
  await base.advance(20);
  assert.deepEqual(accepted[1].seen.events, ['end']);
  write(accepted[1].connection, 'still here');
  accepted[1].connection.end();
  await base.advance(20);
  assert.deepEqual(heard, { text: 'still here', events: ['end', 'close'] });
});

test('whoever does not read holds up who writes', async () => {
  const { base, accepted, connect } = await setup();
  const connection = await connect();
  const seen = record(connection);
  const far = accepted[0];
  far.connection.pause();
  const chunk = 'x'.repeat(SOCKET_BUFFER_BYTES / 2);
  assert.equal(write(connection, chunk), true);
  assert.equal(write(connection, chunk), true);
  assert.equal(write(connection, 'y'), false);
  assert.equal(connection.pending(), 1);
  await base.advance(1000);
  assert.deepEqual([far.seen.text.length, seen.events.length], [0, 0]);
  far.connection.resume();
  await base.advance(10);
  assert.equal(far.seen.text.length, SOCKET_BUFFER_BYTES + 1);
  assert.deepEqual(seen.events, ['drain']);
});

test('a paused process takes nothing and sends nothing, and misses nothing', async () => {
  const { base, network, b, accepted, connect } = await setup();
  const connection = await connect();
  record(connection);
  b.time.pause();
  network.pause('b');
  write(connection, 'one ');
  write(connection, 'two');
  await base.advance(60_000);
  assert.equal(accepted[0].seen.text, '');
  b.time.resume();
  network.resume('b');
  await base.advance(1);
  assert.equal(accepted[0].seen.text, 'one two');
});

test('a killed process resets its connections at once; its successor starts afresh and it never acts again', async () => {
  const { base, network, process, b, accepted, connect } = await setup();
  const connection = await connect();
  const seen = record(connection);
  const ghost = accepted[0].connection;
  b.time.kill();
  network.remove('b');
  await base.advance(20);
  assert.deepEqual(seen.events, ['close']);
  await assert.rejects(connect(), /refused/);
  const heir = process('b');
  await base.until(heir.transport.listen({ port: 7 }, record), 10);
  const next = await connect();
  const heard = record(next);
  write(ghost, 'boo');
  ghost.destroy();
  await base.advance(100);
  assert.deepEqual([heard.text, heard.events, accepted[0].seen.events], ['', [], []]);
});

test('a power cut, or a cut cable: nobody says anything until the system gives up', async () => {
  const { base, network, b, connect } = await setup();
  const connection = await connect();
  const seen = record(connection);
  b.time.kill();
  network.vanish('b');
  await base.advance(CUT_NOTICE_MS - 100);
  assert.deepEqual(seen.events, []);
  await base.advance(200);
  assert.deepEqual(seen.events, ['close']);
});
