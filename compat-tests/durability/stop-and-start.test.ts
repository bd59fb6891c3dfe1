/**
 * Stopping, starting and copying while clients write: SIGTERM under load, a second server on the same directory, and
 * a backup of a running node.
 */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { contentOf, Ledger } from './ledger.ts';
import { info, Pipeline, sendAll } from './pipeline.ts';
import { freshDirectory, killLeftovers, refused, sleep, start } from './server.ts';

after(killLeftovers);

const CONNECTIONS = 4;

for (const policy of ['always', 'everysec', 'no']) {
  test(`SIGTERM under load (${policy}): everything acknowledged is in rows, and nothing is left to replay`, async () => {
    const directory = freshDirectory();
    const ledger = new Ledger();
    const server = await start(directory, '--appendfsync', policy);
    let running = true;
    const loads = Array.from({ length: CONNECTIONS }, (_, i) => ledger.load(server.port, String(i), () => running));
    await sleep(700);
    assert.equal(await server.stop(), 0, server.output.slice(-2000));
    const died = performance.now();
    running = false;
    await Promise.all(loads);
    assert.ok(ledger.acknowledged > 500, `only ${ledger.acknowledged} acknowledged writes`);
    assert.ok(!existsSync(join(directory, 'gramme.lock')));

    const again = await start(directory, '--appendfsync', policy);
    const client = await Pipeline.connect(again.port);
    const dynamo = await info(client, 'dynamo');
    client.close();
    await ledger.check(again.port, died, died);
    assert.equal(dynamo.get('replayed_events'), '0');
    assert.equal(dynamo.get('journal_backlog_bytes'), '0');
    assert.equal(await again.stop(), 0, again.output.slice(-2000));
  });
}

test('a second server on the same directory is refused by name, and the first goes on', async () => {
  const directory = freshDirectory();
  const first = await start(directory);
  const client = await Pipeline.connect(first.port);
  assert.equal(await client.call('SET', 'k', 'v'), '+OK\r\n');
  const { code, output } = await refused(directory);
  assert.equal(code, 1);
  assert.match(output, new RegExp(`gramme-server: ${directory} is in use by another server \\(pid ${first.pid}\\)`));
  assert.equal(readFileSync(join(directory, 'gramme.lock'), 'latin1'), String(first.pid));
  assert.equal(await client.call('SET', 'k2', 'v'), '+OK\r\n');
  client.close();
  assert.equal(await first.stop(), 0, first.output.slice(-2000));
  const next = await start(directory);
  const reader = await Pipeline.connect(next.port);
  assert.equal(await reader.call('DBSIZE'), ':2\r\n');
  reader.close();
  assert.equal(await next.stop(), 0, next.output.slice(-2000));
});

test('a directory that is no directory is refused by name', async () => {
  const file = join(freshDirectory(), 'file');
  writeFileSync(file, '');
  const { code, output } = await refused(file);
  assert.equal(code, 1);
  assert.match(output, /gramme-server: can't use the data directory .*file/);
});

test('a backup of a running node holds every write acknowledged before it began', async () => {
  const ledger = new Ledger();
  const server = await start(freshDirectory());
  let running = true;
  const loads = Array.from({ length: CONNECTIONS }, (_, i) => ledger.load(server.port, String(i), () => running, 20));
  const admin = await Pipeline.connect(server.port);
  const backups: { copy: string; began: number }[] = [];
  // before the first fold, and while folds go on
  for (const wait of [200, 2000]) {
    await sleep(wait);
    const copy = join(freshDirectory(), 'copy');
    backups.push({ copy, began: performance.now() });
    assert.equal(await admin.call('DYNAMO', 'BACKUP', copy), '+OK\r\n');
  }
  assert.match(await admin.call('DYNAMO', 'BACKUP', backups[0].copy), /^-ERR .*exists already/);
  running = false;
  await Promise.all(loads);
  admin.close();

  for (const { copy, began } of backups) {
    const restored = await start(copy);
    const client = await Pipeline.connect(restored.port);
    const missing: string[] = [];
    let there = 0;
    await sendAll(
      restored.port,
      [...ledger.keys],
      ([key]) => ['GET', key],
      ([key, acknowledged], value) => {
        if (value !== null) {
          assert.equal(value, contentOf(key));
          there++;
        } else if (acknowledged < began) missing.push(key);
      },
    );
    assert.deepEqual(missing.slice(0, 5), [], `${missing.length} keys are not in the backup`);
    assert.ok(there > 200);
    // it is a server of its own
    assert.equal(await client.call('SET', 'restored', 'yes'), '+OK\r\n');
    client.close();
    assert.equal(await restored.stop(), 0, restored.output.slice(-2000));
  }
  await ledger.check(server.port, performance.now(), performance.now());
  assert.equal(await server.stop(), 0, server.output.slice(-2000));
});
