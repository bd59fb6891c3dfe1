/**
 * A full disk: the server says so and takes no writes, goes on reading, keeps every promise it made, and takes writes
 * again once there is room. The disk is a small tmpfs; where mounting isn't permitted the tests are skipped.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { info, Pipeline, sendAll, text } from './pipeline.ts';
import { killLeftovers, launch, type Server, sleep, start } from './server.ts';

after(killLeftovers);

const DISK_MB = 160;
/** What is written before the disk is full goes to journal and rows, and to the logs of both: four times its size. */
const BALLAST_MB = 136;
const VALUE = 'v'.repeat(1000);
const DEPTH = 50;

const mounted = new Set<string>();
function unmount(directory: string): void {
  spawnSync('umount', ['--lazy', directory]);
  rmdirSync(directory);
  mounted.delete(directory);
}
process.once('exit', () => {
  for (const directory of mounted) unmount(directory);
});

/** A disk of its own, or why there is none. */
function mount(): { directory: string } | { why: string } {
  const directory = mkdtempSync(join(tmpdir(), 'gramme-disk-'));
  const run = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${DISK_MB}m`, 'tmpfs', directory], { encoding: 'utf8' });
  if (run.status === 0) {
    mounted.add(directory);
    return { directory };
  }
  rmdirSync(directory);
  return { why: `mounting a tmpfs is not permitted here: ${run.error?.message ?? run.stderr.trim()}` };
}

/** Writes unique keys until the server says that it can't; resolves with those that it acknowledged, and the error. */
async function fill(server: Server, acknowledged: Set<string>): Promise<string> {
  let refusal = '';
  for (let attempt = 0; refusal === '' && attempt < 20; attempt++) {
    const client = await Pipeline.connect(server.port);
    while (refusal === '' && !client.closed) {
      await client.room(DEPTH);
      const key = `key:${acknowledged.size}:${Math.random()}`;
      client.send(['SET', key, VALUE + key], (reply) => {
        if (reply === '+OK\r\n') acknowledged.add(key);
        else if (reply !== null) refusal = reply;
      });
    }
    await client.drained();
    client.close();
    // whoever waited for the batch that failed has lost the connection, and asks again
    if (refusal === '') await sleep(20);
  }
  return refusal;
}

async function allThere(server: Server, acknowledged: Set<string>): Promise<void> {
  const wrong: string[] = [];
  await sendAll(
    server.port,
    acknowledged,
    (key) => ['GET', key],
    (key, value) => {
      if (value !== VALUE + key) wrong.push(`${key}: ${value?.slice(0, 60)}`);
    },
  );
  assert.deepEqual(wrong.slice(0, 5), [], `${wrong.length} of ${acknowledged.size} acknowledged writes`);
}

async function writesAgain(server: Server): Promise<void> {
  for (let i = 0; ; i++) {
    const client = await Pipeline.connect(server.port);
    const reply = await client.call('SET', 'again', 'yes').catch((error) => String(error));
    client.close();
    if (reply === '+OK\r\n') return;
    assert.ok(i < 100, `no writes 10 s after there was room: ${reply}`);
    await sleep(100);
  }
}

async function onSmallDisk(
  t: { skip(why: string): void; diagnostic(text: string): void },
  run: (directory: string, ballast: string, track: (server: Server) => Server) => Promise<void>,
): Promise<void> {
  const disk = mount();
  if ('why' in disk) {
    t.skip(disk.why);
    return;
  }
  const servers: Server[] = [];
  try {
    const ballast = join(disk.directory, 'ballast');
    writeFileSync(ballast, Buffer.alloc(BALLAST_MB * 1024 * 1024, 1));
    await run(join(disk.directory, 'data'), ballast, (server) => {
      servers.push(server);
      return server;
    });
  } finally {
    for (const server of servers) await server.kill();
    unmount(disk.directory);
  }
}

test('a disk that fills up under `always`', async (t) => {
  await onSmallDisk(t, async (directory, ballast, track) => {
    const server = track(await start(directory, '--appendfsync', 'always'));
    const acknowledged = new Set<string>();
    const refusal = await fill(server, acknowledged);
    assert.match(refusal, /^-MISCONF /);
    assert.ok(acknowledged.size > 1000, `only ${acknowledged.size} writes fitted`);
    t.diagnostic(`${acknowledged.size} writes before the disk was full`);

    // reads go on, and say the truth; other writes are refused, each in words
    await allThere(server, acknowledged);
    const client = await Pipeline.connect(server.port);
    assert.match(await client.call('DEL', 'key'), /^-MISCONF /);
    assert.match(await client.call('INCR', 'counter'), /^-MISCONF /);
    assert.equal(await client.call('GET', 'counter'), '$-1\r\n');
    assert.equal(await client.call('PING'), '+PONG\r\n');
    assert.equal((await info(client, 'persistence')).get('aof_last_write_status'), 'err');
    client.close();

    rmSync(ballast);
    await writesAgain(server);
    await allThere(server, acknowledged);
    assert.equal(await server.stop(), 0, server.output.slice(-2000));
    const again = track(await start(directory, '--appendfsync', 'always'));
    await allThere(again, acknowledged);
    const reader = await Pipeline.connect(again.port);
    assert.equal(text(await reader.call('GET', 'again')), 'yes');
    reader.close();
    assert.equal(await again.stop(), 0, again.output.slice(-2000));
  });
});

test('a server killed while its disk is full', async (t) => {
  await onSmallDisk(t, async (directory, ballast, track) => {
    const server = track(await start(directory, '--appendfsync', 'always'));
    const acknowledged = new Set<string>();
    assert.match(await fill(server, acknowledged), /^-MISCONF /);
    await server.kill();

    // with no room at all it starts or says why it doesn't, and loses nothing either way
    const cramped = track(await launch(directory, '--appendfsync', 'always'));
    const outcome = await Promise.race([
      cramped.ended,
      cramped.ready().then(
        () => 'ready',
        () => 'ended',
      ),
    ]);
    t.diagnostic(`started on a full disk: ${outcome === 'ready' ? 'it serves' : `exit ${await cramped.ended}`}`);
    if (outcome === 'ready') await allThere(cramped, acknowledged);
    else assert.match(cramped.output, /full|SQLITE_FULL|SQLITE_IOERR|ENOSPC/i, cramped.output);
    await cramped.kill();

    assert.ok(existsSync(ballast));
    rmSync(ballast);
    const again = track(await start(directory, '--appendfsync', 'always'));
    await allThere(again, acknowledged);
    await writesAgain(again);
    assert.equal(await again.stop(), 0, again.output.slice(-2000));
  });
});
