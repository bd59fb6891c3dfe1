/**
 * Clients that are slow, silent or many: what they cost is bounded, they get what they asked for in the end, and
 * nobody else waits for them.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, afterEach, before, describe, test } from 'node:test';
import { info, Pipeline } from '../durability/pipeline.ts';
import { freshDirectory, type Server, sleep, start } from '../durability/server.ts';
import { encodeCommand } from '../lib/raw-connection.ts';
import { Attacker, isServed, MB } from './attacker.ts';

const VALUE = 'v'.repeat(10_000);
const GETS = 100_000;
const IDLE = 10_000;
/** Descriptors that this process and the server need besides idle connections. */
const SPARE_DESCRIPTORS = 200;

/** Most descriptors that this process may have open; what it starts inherits that. */
function descriptors(): number {
  return Number(/Max open files\s+(\d+)/.exec(readFileSync('/proc/self/limits', 'latin1'))?.[1] ?? 1024);
}

describe('clients that cost', () => {
  let server: Server;
  before(async () => {
    server = await start(freshDirectory(), '--maxclients', '20000');
    const client = await Pipeline.connect(server.port);
    assert.equal(await client.call('SET', 'value', VALUE), '+OK\r\n');
    client.close();
  });
  after(async () => {
    assert.equal(await server.stop(), 0, server.output.slice(-2000));
  });
  afterEach(async () => {
    await isServed(server);
  });

  test('a client that shuts its side after a pipeline gets every reply', async () => {
    const n = 20_000;
    const attacker = await Attacker.connect(server.port);
    let bytes = 0;
    attacker.onData = (chunk) => {
      bytes += chunk.length;
    };
    const commands = Array.from({ length: n }, (_, i) =>
      encodeCommand(i % 2 ? ['GET', 'value'] : ['SET', `half:${i}`, 'x']),
    );
    attacker.socket.end(Buffer.concat(commands));
    await attacker.until(() => attacker.ended, 'the server closing its side', 20_000);
    assert.equal(bytes, (n / 2) * ('+OK\r\n'.length + `$${VALUE.length}\r\n${VALUE}\r\n`.length));
    attacker.close();
  });

  test('a client that shuts its side before it reads gets every reply', async () => {
    const n = 5000;
    const attacker = await Attacker.connect(server.port);
    attacker.socket.pause();
    attacker.socket.end(Buffer.concat(Array.from({ length: n }, () => encodeCommand(['GET', 'value']))));
    await sleep(300);
    let bytes = 0;
    attacker.onData = (chunk) => {
      bytes += chunk.length;
    };
    attacker.socket.resume();
    await attacker.until(() => attacker.ended, 'the server closing its side', 20_000);
    assert.equal(bytes, n * `$${VALUE.length}\r\n${VALUE}\r\n`.length);
    attacker.close();
  });

  test("a reader that asks for a gigabyte and doesn't read", async (t) => {
    const attacker = await Attacker.connect(server.port);
    attacker.socket.pause();
    const before = server.rss();
    const command = encodeCommand(['GET', 'value']);
    void attacker.write(Buffer.concat(Array.from({ length: GETS }, () => command)));
    let most = 0;
    for (let i = 0; i < 20; i++) {
      await sleep(50);
      most = Math.max(most, server.rss() - before, await isServed(server).then(() => 0));
    }
    t.diagnostic(`${(most / MB).toFixed(0)} MB more while nothing was read`);
    assert.ok(most < 150 * MB, `${(most / MB).toFixed(0)} MB for one slow reader`);

    const reply = Buffer.from(`$${VALUE.length}\r\n${VALUE}\r\n`);
    const wanted = GETS * reply.length;
    const cycle = Buffer.concat(Array.from({ length: 10 }, () => reply));
    let bytes = 0;
    let wrong = 0;
    attacker.onData = (chunk) => {
      // any chunk is a piece of the endless repetition of one reply
      const from = bytes % reply.length;
      for (let at = 0; at < chunk.length; ) {
        const start = (from + at) % reply.length;
        const n = Math.min(chunk.length - at, cycle.length - start);
        if (cycle.compare(chunk, at, at + n, start, start + n) !== 0) wrong++;
        at += n;
      }
      bytes += chunk.length;
    };
    const began = performance.now();
    attacker.socket.resume();
    await attacker.until(() => bytes >= wanted || attacker.ended, 'all replies', 20_000);
    assert.equal(bytes, wanted);
    assert.equal(wrong, 0);
    t.diagnostic(`${(wanted / MB).toFixed(0)} MB read in ${((performance.now() - began) / 1000).toFixed(1)} s`);
    attacker.close();
    assert.ok(server.rss() - before < 200 * MB);
  });

  test('a client that goes away with a gigabyte asked for', async () => {
    const attacker = await Attacker.connect(server.port);
    attacker.socket.pause();
    const command = encodeCommand(['GET', 'value']);
    void attacker.write(Buffer.concat(Array.from({ length: 10_000 }, () => command)));
    await sleep(100);
    attacker.close();
    await sleep(100);
    const client = await Pipeline.connect(server.port);
    assert.ok(Number((await info(client, 'clients')).get('connected_clients')) < 5);
    client.close();
  });

  test('idle connections by the thousand', async (t) => {
    const limit = Math.min(
      descriptors(),
      Number(/Max open files\s+(\d+)/.exec(readFileSync(`/proc/${server.pid}/limits`, 'latin1'))?.[1]),
    );
    const n = Math.min(IDLE, limit - SPARE_DESCRIPTORS);
    if (n < 500) {
      t.skip(`only ${limit} descriptors are allowed`);
      return;
    }
    const before = server.rss();
    const idle: Attacker[] = [];
    while (idle.length < n) {
      idle.push(
        ...(await Promise.all(
          Array.from({ length: Math.min(200, n - idle.length) }, () => Attacker.connect(server.port)),
        )),
      );
    }
    const each = (server.rss() - before) / n / 1024;
    const times: number[] = [];
    for (let i = 0; i < 50; i++) times.push(await isServed(server));
    times.sort((a, b) => a - b);
    t.diagnostic(
      `${n} idle connections, ${each.toFixed(1)} KB each; a new client is served in ${times[25].toFixed(1)} ms (median)`,
    );
    assert.ok(times[25] < 100, `${times[25].toFixed(0)} ms to serve a client`);
    assert.ok(each < 64, `${each.toFixed(0)} KB for an idle connection`);
    // they are idle and not forgotten
    for (const attacker of [idle[0], idle[n - 1]]) {
      await attacker.write('PING\r\n');
      await attacker.until(() => attacker.received === '+PONG\r\n', 'an idle connection waking up');
    }
    for (const attacker of idle) attacker.close();
    const client = await Pipeline.connect(server.port);
    for (let i = 0; i < 100 && Number((await info(client, 'clients')).get('connected_clients')) > 5; i++)
      await sleep(50);
    assert.ok(Number((await info(client, 'clients')).get('connected_clients')) <= 5);
    client.close();
  });
});
