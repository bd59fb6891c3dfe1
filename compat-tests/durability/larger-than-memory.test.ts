/**
 * Five times as much data as `maxmemory`: memory is a cache, so every answer is the one that a server with room for
 * everything would give, and the process stays within bounds.
 */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { parseReply, textOf } from '../lib/reply.ts';
import { info, Pipeline, sendAll } from './pipeline.ts';
import { freshDirectory, killLeftovers, type Server, start } from './server.ts';

after(killLeftovers);

const MB = 1024 * 1024;
const KEYS = 75_000;
const VALUE_BYTES = 2000;
const READS = 5_000;
const MOST_RSS = 400 * MB;

const contentOf = (i: number, version = 0) =>
  `${i}:${version}:`.padEnd(VALUE_BYTES, String.fromCharCode(97 + (i % 26)));

/** Every name that SCAN gives, in order. */
async function scan(client: Pipeline): Promise<string[]> {
  const names: string[] = [];
  let cursor = '0';
  do {
    const reply = parseReply(await client.call('SCAN', cursor, 'COUNT', '1000'));
    assert.ok('items' in reply && reply.items);
    cursor = textOf(reply.items[0]);
    const page = reply.items[1];
    if ('items' in page) for (const item of page.items ?? []) names.push(textOf(item));
  } while (cursor !== '0');
  return names;
}

test('150 MB under `maxmemory 32mb`', async (t) => {
  const directory = freshDirectory();
  let server = await start(directory, '--maxmemory', '32mb');
  let client = await Pipeline.connect(server.port);
  let most = 0;
  const watch = setInterval(() => {
    most = Math.max(most, server.rss());
  }, 100);
  t.after(() => clearInterval(watch));
  const ok = (_: unknown, reply: string | null) => assert.equal(reply, 'OK');

  const began = performance.now();
  await sendAll(server.port, Array(KEYS).keys(), (i) => ['SET', `key:${i}`, contentOf(i)], ok);
  const rate = (KEYS / (performance.now() - began)) * 1000;

  // some keys are written again, some go away, some are counters, long after they left memory
  const versions = new Map<number, number>();
  for (let i = 0; i < KEYS; i += 37) versions.set(i, 1);
  await sendAll(server.port, versions.keys(), (i) => ['SET', `key:${i}`, contentOf(i, 1)], ok);
  const gone = new Set<number>();
  for (let i = 5; i < KEYS; i += 101) if (!versions.has(i)) gone.add(i);
  await sendAll(
    server.port,
    gone,
    (i) => ['DEL', `key:${i}`],
    (_, reply) => assert.equal(reply, '1'),
  );

  const check = async (server: Server) => {
    const picks = Array.from({ length: READS }, () => Math.floor(Math.random() * KEYS));
    const reads = performance.now();
    await sendAll(
      server.port,
      picks,
      (i) => ['GET', `key:${i}`],
      (i, value) => {
        const expected = gone.has(i) ? null : contentOf(i, versions.get(i) ?? 0);
        if (value !== expected) assert.fail(`key:${i} is ${String(value).slice(0, 40)}`);
      },
    );
    t.diagnostic(`${Math.round((READS / (performance.now() - reads)) * 1000)} reads a second`);
    assert.equal(await client.call('DBSIZE'), `:${KEYS - gone.size}\r\n`);
    const names = await scan(client);
    const distinct = new Set(names);
    assert.equal(distinct.size, KEYS - gone.size, 'SCAN sees every key');
    assert.equal(names.length, distinct.size, 'and none twice');
    for (const i of gone) assert.ok(!distinct.has(`key:${i}`));
    assert.ok(Number((await info(client, 'dynamo')).get('resident_bytes')) < 64 * MB);
    most = Math.max(most, server.rss());
  };
  await check(server);
  client.close();
  assert.equal(await server.stop(), 0, server.output.slice(-2000));

  server = await start(directory, '--maxmemory', '32mb');
  client = await Pipeline.connect(server.port);
  await check(server);
  client.close();
  assert.equal(await server.stop(), 0, server.output.slice(-2000));
  t.diagnostic(`${Math.round(rate)} writes a second, at most ${Math.round(most / MB)} MB resident`);
  assert.ok(most < MOST_RSS, `${Math.round(most / MB)} MB resident`);
});
