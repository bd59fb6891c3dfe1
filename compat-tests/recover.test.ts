/**
 * `gramme recover` on the directories of real servers: what it reads, what it leaves alone, and what it brings back to a
 * cluster that has expelled the node.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { freshDirectory, killLeftovers, sleep, start } from './durability/server.ts';
import { connectTo, eventually, TestCluster, usable } from './nemesis/cluster.ts';

const TOOL = fileURLToPath(new URL('../bin/gramme', import.meta.url));
/** Longer than a journal batch waits before the system has it. */
const WRITTEN_MS = 300;

after(killLeftovers);

interface Line {
  db: number;
  key: string | { base64: string };
  counter?: boolean;
  siblings: { value: string | { base64: string }; deadline: number | null; cluster?: string }[];
  deadline: number | null;
}

interface Told {
  code: number | null;
  lines: Line[];
  said: string;
}

async function recover(...args: string[]): Promise<Told> {
  const child = spawn(process.execPath, [TOOL, 'recover', ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let out = '';
  let said = '';
  child.stdout.on('data', (chunk) => {
    out += chunk;
  });
  child.stderr.on('data', (chunk) => {
    said += chunk;
  });
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
  return { code, said, lines: linesOf(out) };
}

function linesOf(text: string): Line[] {
  return text
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line));
}

function filesOf(directory: string): string[] {
  return readdirSync(directory)
    .sort()
    .map(
      (name) =>
        `${name} ${createHash('sha1')
          .update(readFileSync(join(directory, name)))
          .digest('hex')}`,
    );
}

function find(told: Told, key: string): Line | undefined {
  return told.lines.find((line) => line.key === key);
}

function outcomes(told: Told, key: string): (string | undefined)[] {
  return find(told, key)?.siblings.map((s) => s.cluster) ?? [];
}

test('everything in a directory, journal, siblings, deadlines and bytes, and not a byte of it changed', async () => {
  const directory = freshDirectory('gramme-recover-test-');
  const server = await start(directory);
  const redis = connectTo(server.port);
  assert.ok(await usable(redis));
  const until = Date.now() + 100_000;
  await redis.set('plain', 'ünï');
  await redis.set('dated', 'v', 'PXAT', until);
  await redis.set('over', 'v', 'PX', 1);
  await redis.incrby('counter', 7);
  await redis.set('gone', 'v');
  await redis.del('gone');
  for (const value of ['x', 'y']) await redis.call('DSET', 'both', value);
  await redis.select(3);
  await redis.set(Buffer.from([255, 254]), Buffer.from([0, 128]));
  const running = await recover(directory);
  assert.equal(running.code, 1);
  assert.match(running.said, /in use by a server/);
  await sleep(WRITTEN_MS);
  redis.disconnect();
  await server.kill();
  const before = filesOf(directory);
  const told = await recover(directory);
  assert.equal(told.code, 0, told.said);
  assert.deepEqual(filesOf(directory), before);
  assert.equal(find(told, 'plain')?.siblings[0].value, 'ünï');
  assert.equal(find(told, 'dated')?.deadline, until);
  assert.deepEqual(
    find(told, 'both')?.siblings.map((s) => s.value),
    ['y', 'x'],
  );
  assert.equal(find(told, 'counter')?.counter, true);
  assert.equal(find(told, 'counter')?.siblings[0].value, '7');
  assert.equal(find(told, 'gone'), undefined);
  const bytes = told.lines.find((line) => line.db === 3);
  assert.deepEqual(bytes?.key, { base64: Buffer.from([255, 254]).toString('base64') });
  assert.deepEqual(bytes?.siblings[0].value, { base64: Buffer.from([0, 128]).toString('base64') });

  // the same after a clean stop, when everything is in rows, into a file
  const again = await start(directory);
  assert.equal(await again.stop(), 0);
  const file = join(freshDirectory('gramme-recover-out-'), 'lines');
  const toFile = await recover(directory, '--out', file);
  assert.equal(toFile.code, 0, toFile.said);
  assert.deepEqual(toFile.lines, []);
  const lines = linesOf(readFileSync(file, 'utf8'));
  // the server that was started meanwhile has removed what was over
  const names = (list: Line[]) => list.map((line) => JSON.stringify(line.key)).filter((k) => k !== '"over"');
  assert.deepEqual(names(lines).sort(), names(told.lines).sort());
});

test('what is damaged is said, and the rest is read; misuse has a code of its own', async () => {
  const directory = freshDirectory('gramme-recover-test-');
  const server = await start(directory);
  const redis = connectTo(server.port);
  assert.ok(await usable(redis));
  await redis.set('k', 'v');
  redis.disconnect();
  assert.equal(await server.stop(), 0);
  writeFileSync(join(directory, 'journal.db'), Buffer.alloc(8192, 7));
  const told = await recover(directory);
  assert.equal(told.code, 1);
  assert.match(told.said, /damage: journal.db is damaged.*the rest is read without it/);
  assert.equal(find(told, 'k')?.siblings[0].value, 'v');
  // as a server leaves it that has set a file aside
  const aside = freshDirectory('gramme-recover-test-');
  mkdirSync(aside, { recursive: true });
  copyFileSync(join(directory, 'data.db'), join(aside, 'data.db.damaged-20260101'));
  const set = await recover(aside);
  assert.match(set.said, /data\.db\.damaged-20260101 is read instead/);
  assert.equal(find(set, 'k')?.siblings[0].value, 'v');

  const empty = freshDirectory('gramme-recover-test-');
  assert.match((await recover(empty)).said, /is no data directory/);
  assert.equal((await recover(join(empty, 'nothing'))).code, 1);
  assert.equal((await recover()).code, 2);
  assert.equal((await recover(directory, '--yes')).code, 1);
});

test('an expelled node: what the cluster lacks comes back as siblings, and what it deleted only when asked for', async () => {
  const cluster = await TestCluster.start(4);
  try {
    const [alone, ...others] = cluster.members;
    const [other] = others;
    const deleted = Array.from({ length: 12 }, (_, i) => `deleted:${i}`);
    for (const key of [...deleted, 'both', 'same']) await other.call('SET', key, 'before');
    for (const m of others) await alone.call('DYNAMO', 'LINKS', 'CUT', m.id);
    assert.ok(await eventually(10_000, async () => (await alone.info('cluster')).get('peers_alive') === '0'));
    const cut = new Date().toISOString();
    await sleep(20);
    await alone.call('SET', 'both', 'by the one');
    await alone.call('SET', 'only', 'by the one');
    await other.call('SET', 'both', 'by the others');
    for (const key of deleted) await other.call('DEL', key);
    await sleep(WRITTEN_MS);
    await alone.kill();
    for (const m of others) {
      await m.call('CONFIG', 'SET', 'tombstone-grace', '3');
      // the questions below are clients too, and on a busy machine background work would give way to them
      await m.call('CONFIG', 'SET', 'background-latency-ms', '0');
    }
    const expelled = await eventually(60_000, async () => {
      const rings = await Promise.all(others.map((m) => m.call('CLUSTER', 'INFO')));
      return rings.every((text) => /cluster_size:3\b/.test(String(text)));
    });
    assert.ok(expelled, other.server.output.slice(-2000));
    assert.ok(others.some((m) => /it is expelled, and what it alone holds is set aside/.test(m.server.output)));
    cluster.members = others;
    await cluster.settled();

    // it comes back, serves nothing, and gives nothing away
    await alone.restart();
    const refuses = () =>
      alone.call('GET', 'same').then(
        () => false,
        (error) => /CLUSTERDOWN.*expelled/.test(String(error)),
      );
    assert.ok(await eventually(10_000, refuses));
    await sleep(1500);
    assert.equal(await other.call('GET', 'only'), null);
    for (const key of deleted) assert.equal(await other.call('GET', key), null);
    await alone.kill();

    const to = ['--to', `127.0.0.1:${other.port}`];
    const told = await recover(alone.directory, ...to);
    assert.equal(told.code, 0, told.said);
    assert.equal(find(told, 'same'), undefined, 'the cluster has it');
    assert.deepEqual(outcomes(told, 'both'), ['lacks']);
    assert.deepEqual(outcomes(told, 'only'), ['no trace']);
    assert.ok(deleted.some((key) => outcomes(told, key)[0] === 'deleted'));
    assert.match(told.said, /1 to write; nothing is written without --yes/);
    assert.equal(await other.call('GET', 'both'), 'by the others');
    assert.deepEqual(outcomes(await recover(alone.directory, ...to, '--since', cut), 'only'), ['lacks']);

    const written = await recover(alone.directory, ...to, '--yes');
    assert.equal(written.code, 0, written.said);
    assert.match(written.said, /1 of 1 written/);
    const both = (await others[1].call('DGET', 'both')) as [string, string[]];
    assert.deepEqual(both[1].sort(), ['by the one', 'by the others']);
    assert.equal(await other.call('GET', 'only'), null);

    const all = await recover(alone.directory, ...to, '--yes', '--include-deleted');
    assert.equal(all.code, 0, all.said);
    assert.equal(await other.call('GET', 'only'), 'by the one');
    assert.equal(await other.call('GET', deleted.find((key) => find(told, key) !== undefined)!), 'before');
    // and a second time there is nothing to do
    const nothing = await recover(alone.directory, ...to, '--yes', '--include-deleted');
    assert.match(nothing.said, /0 of 0 written/);
    assert.ok(existsSync(join(alone.directory, 'data.db')));
    await alone.end();
  } finally {
    await cluster.end();
  }
});
