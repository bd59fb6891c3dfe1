/**
 * Bytes that are no requests, or not whole ones: each is answered or hung up on, none takes memory or time from
 * anybody else.
 */
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import { freshDirectory, type Server, sleep, start } from '../durability/server.ts';
import { Prng } from '../lib/prng.ts';
import { encodeCommand } from '../lib/raw-connection.ts';
import { Attacker, isServed, MB } from './attacker.ts';

describe('hostile bytes', () => {
  let server: Server;
  before(async () => {
    server = await start(freshDirectory());
  });
  after(async () => {
    assert.equal(await server.stop(), 0, server.output.slice(-2000));
  });
  afterEach(async () => {
    await isServed(server);
  });

  test('random bytes', async () => {
    for (let seed = 1; seed <= 300; seed++) {
      const random = new Prng(seed);
      const bytes = Buffer.from(Array.from({ length: 1 + random.int(400) }, () => random.int(256)));
      if (seed % 3 === 0) bytes[0] = 42;
      const attacker = await Attacker.connect(server.port);
      for (let at = 0; at < bytes.length; ) {
        const n = 1 + random.int(bytes.length);
        await attacker.write(bytes.subarray(at, at + n));
        at += n;
      }
      attacker.close();
    }
  });

  test('valid requests cut at every byte, by a close and by a half-close', async () => {
    const whole = Buffer.concat([
      encodeCommand(['SET', 'cut', 'x'.repeat(12)]),
      Buffer.from('GET cut\r\n'),
      encodeCommand(['GET', 'cut']),
    ]);
    for (let n = 0; n <= whole.length; n++) {
      const closed = await Attacker.connect(server.port);
      await closed.write(whole.subarray(0, n));
      closed.close();
      const half = await Attacker.connect(server.port);
      half.socket.end(whole.subarray(0, n));
      await half.until(() => half.ended, `half-closed after ${n} bytes`);
      assert.ok('+OK\r\n$12\r\nxxxxxxxxxxxx\r\n$12\r\nxxxxxxxxxxxx\r\n'.startsWith(half.received), half.received);
      half.close();
    }
  });

  test('a request that comes byte by byte, the next one begun with the end of it', async () => {
    const attacker = await Attacker.connect(server.port);
    const first = encodeCommand(['SET', 'slow', 'x'.repeat(300)]);
    await attacker.write(first.subarray(0, 100));
    await sleep(5);
    // the header of a second command in the same segment as the end of the first
    await attacker.write(Buffer.concat([first.subarray(100), Buffer.from('*1')]));
    await sleep(5);
    await attacker.write('\r\n$4\r\nPI');
    await sleep(5);
    await attacker.write('NG\r\n');
    await attacker.until(() => attacker.received === '+OK\r\n+PONG\r\n', 'both replies');
    for (const byte of encodeCommand(['GET', 'slow'])) await attacker.write(Buffer.from([byte]));
    await attacker.until(() => attacker.received.endsWith(`$300\r\n${'x'.repeat(300)}\r\n`), 'the third');
    attacker.close();
  });

  test('lengths that are huge, negative or no numbers', async () => {
    const facts: [string, RegExp][] = [
      ['*4294967296\r\n', /^-ERR Protocol error: invalid multibulk length\r\n$/],
      [`*${'9'.repeat(40)}\r\n`, /^-ERR Protocol error: invalid multibulk length\r\n$/],
      ['*x\r\n', /^-ERR Protocol error: invalid multibulk length\r\n$/],
      ['*1\r\n$-2\r\n', /^-ERR Protocol error: invalid bulk length\r\n$/],
      ['*1\r\n$99999999999\r\n', /^-ERR Protocol error: invalid bulk length\r\n$/],
      [`*1\r\n$${'9'.repeat(40)}\r\n`, /^-ERR Protocol error: invalid bulk length\r\n$/],
      ['*2\r\n$3\r\nGET\r\n:1\r\n', /^-ERR Protocol error: expected '\$', got ':'\r\n$/],
      ['PING\r\n*1\r\n!\r\n', /^\+PONG\r\n-ERR Protocol error: expected '\$', got '!'\r\n$/],
      ["SET k 'v\r\n", /^-ERR Protocol error: unbalanced quotes in request\r\n$/],
    ];
    for (const [bytes, said] of facts) {
      const attacker = await Attacker.connect(server.port);
      assert.match(await attacker.dies(bytes), said, bytes);
    }
    for (const empty of ['*-1\r\n', '*0\r\n', '*-100\r\n', '\r\n']) {
      const attacker = await Attacker.connect(server.port);
      await attacker.write(`${empty}PING\r\n`);
      await attacker.until(() => attacker.received === '+PONG\r\n', `a PING after ${JSON.stringify(empty)}`);
      attacker.close();
    }
  });

  test('arrays in arrays', async () => {
    const attacker = await Attacker.connect(server.port);
    assert.match(await attacker.dies('*1\r\n'.repeat(100_000)), /^-ERR Protocol error: expected '\$', got '\*'\r\n$/);
  });

  test('a line of a megabyte without an end', async () => {
    for (const head of ['', '*', '*1\r\n$']) {
      const attacker = await Attacker.connect(server.port);
      assert.match(await attacker.dies(head + '1'.repeat(MB)), /^-ERR Protocol error: too big /);
    }
  });

  test('headers that claim 512 MB, and then silence', async (t) => {
    const claims = ['*2\r\n$3\r\nGET\r\n$536870912\r\n', '*1048576\r\n', '*1048576\r\n$536870912\r\nabc'];
    await isServed(server);
    const before = server.rss();
    const attackers: Attacker[] = [];
    for (let i = 0; i < 60; i++) {
      const attacker = await Attacker.connect(server.port);
      await attacker.write(claims[i % claims.length]);
      attackers.push(attacker);
    }
    await sleep(200);
    const each = (server.rss() - before) / attackers.length;
    t.diagnostic(`${(each / MB).toFixed(2)} MB a connection`);
    assert.ok(each < 2 * MB, `${(each / MB).toFixed(1)} MB for a header`);
    await isServed(server);
    for (const attacker of attackers) attacker.close();
  });

  test('a command of very many arguments', async () => {
    const attacker = await Attacker.connect(server.port);
    const n = 300_000;
    const bytes = Buffer.from(`*${n}\r\n$4\r\nECHO\r\n${'$1\r\na\r\n'.repeat(n - 1)}`, 'latin1');
    await attacker.write(bytes);
    await attacker.until(() => attacker.received.endsWith('\r\n'), 'an answer');
    assert.match(attacker.received, /^-ERR wrong number of arguments for 'echo' command\r\n$/);
    attacker.close();
  });

  test('names of commands that are long, empty or strange', async () => {
    const attacker = await Attacker.connect(server.port);
    const names = ['', '\0', 'x'.repeat(100_000), 'constructor', '__proto__', 'toString', 'GET\r\n', '\xff\xfe'];
    for (const name of names) await attacker.write(encodeCommand([Buffer.from(name, 'latin1'), 'a\r\nb']));
    await attacker.write('PING\r\n');
    await attacker.until(() => attacker.received.endsWith('+PONG\r\n'), 'all answers');
    const replies = attacker.received.split('\r\n').slice(0, -1);
    assert.equal(replies.length, names.length + 1, 'a reply each, and no line break within one');
    for (const reply of replies.slice(0, -1)) assert.match(reply, /^-ERR unknown command '/);
    attacker.close();
  });
});
