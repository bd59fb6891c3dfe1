/** The simulated disk: what survives a kill, a power cut and a full disk. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { RowBatch } from '../ports/engine.ts';
import { FAST_DISK, SimDisk, SimEngine } from './disk.ts';
import { SeededRandom } from './random.ts';
import { NodeTime, VirtualTime } from './time.ts';

function batch(
  rows: { key: string; pos: number; value: string; deadline?: number }[],
  deletes: string[] = [],
): RowBatch {
  let bytes = '';
  const place = (text: string) => {
    const at = bytes.length;
    bytes += text;
    return [at, text.length];
  };
  const puts = rows.map((r) => [0, r.pos, ...place(r.key), r.deadline ?? 0, ...place(r.value), 0]);
  const gone = deletes.map((key) => [0, 0, ...place(key)]);
  return { bytes: Buffer.from(bytes), puts, deletes: gone, entryPuts: [], entryDeletes: [], entryClears: [] };
}

function setup(seed = 1) {
  const time = new VirtualTime();
  const disk = new SimDisk(new SeededRandom(seed));
  const process = () => {
    const own = new NodeTime(time);
    return { own, engine: new SimEngine(disk, own) };
  };
  const run = <T>(work: Promise<T>) => time.until(work, 10_000);
  const journal = async (engine: SimEngine) => {
    const seqs: number[] = [];
    await run(
      engine.readJournal(async (row) => {
        seqs.push(row.seq);
      }),
    );
    return seqs;
  };
  return { time, disk, process, run, journal };
}

const bytes = Buffer.from('some events');

test('a killed process leaves what the system had; a second one can only open it then', async () => {
  const { disk, process, run, journal } = setup();
  const { own, engine } = process();
  await run(engine.open());
  await assert.rejects(run(process().engine.open()), /in use/);
  await run(engine.append(1, bytes, 4));
  await run(engine.beginRows());
  await run(engine.writeRows(batch([{ key: 'k', pos: 5, value: 'uncommitted' }])));
  own.kill();
  disk.release();
  const next = process().engine;
  await run(next.open());
  assert.deepEqual(await journal(next), [1]);
  assert.equal(await run(next.isEmpty()), true);
  await run(next.beginRows());
  await run(next.writeRows(batch([{ key: 'k', pos: 5, value: 'committed' }])));
  await run(next.commitRows({ 'rows.meta': Buffer.from('m') }));
  const [row] = await run(next.load([0, 5]));
  assert.equal(String(row.state), 'committed');
  assert.equal(String(await run(next.getMeta('rows.meta'))), 'm');
});

test('a power cut leaves what was synced, and a first part of the rest', async () => {
  const lengths = new Set<number>();
  for (let seed = 1; seed <= 40; seed++) {
    const { disk, process, run, journal } = setup(seed);
    const { own, engine } = process();
    await run(engine.open());
    for (let i = 1; i <= 3; i++) await run(engine.append(i, bytes, 4));
    await run(engine.syncJournal());
    for (let i = 4; i <= 6; i++) await run(engine.append(i, bytes, 4));
    await run(engine.setMeta('clock', Buffer.from('9')));
    own.kill();
    disk.powerCut();
    const next = process().engine;
    await run(next.open());
    const kept = await journal(next);
    assert.deepEqual(kept, [1, 2, 3, 4, 5, 6].slice(0, kept.length));
    assert.ok(kept.length >= 3);
    assert.equal(String(await run(next.getMeta('clock'))), '9');
    lengths.add(kept.length);
  }
  assert.equal(lengths.size, 4);
});

test('under always an acknowledged batch is there after a power cut', async () => {
  for (let seed = 1; seed <= 20; seed++) {
    const { disk, process, run, journal } = setup(seed);
    const { engine } = process();
    await run(engine.open());
    await run(engine.setSync('always'));
    await run(engine.append(1, bytes, 4));
    disk.powerCut();
    const next = process().engine;
    await run(next.open());
    assert.deepEqual(await journal(next), [1]);
  }
});

test('a call whose process dies takes effect or not, and nobody is told', async () => {
  const outcomes = new Set<number>();
  for (let seed = 1; seed <= 40; seed++) {
    const { time, disk, process, run, journal } = setup(seed);
    disk.times = { call: { min: 10, mean: 10.001 }, sync: FAST_DISK.sync };
    const { own, engine } = process();
    await run(engine.open());
    let told = false;
    void engine.append(1, bytes, 4).then(() => {
      told = true;
    });
    await time.advance(5);
    own.kill();
    disk.release();
    await time.advance(100);
    assert.equal(told, false);
    const next = process().engine;
    await run(next.open());
    outcomes.add((await journal(next)).length);
  }
  assert.deepEqual([...outcomes].sort(), [0, 1]);
});

test('a full disk refuses writes and goes on reading; a wiped one is empty', async () => {
  const { disk, process, run } = setup();
  const { engine } = process();
  await run(engine.open());
  await run(engine.setMeta('identity', Buffer.from('me')));
  disk.failing = 'SQLITE_FULL';
  await assert.rejects(run(engine.append(1, bytes, 4)), /SQLITE_FULL/);
  assert.equal(String(await run(engine.getMeta('identity'))), 'me');
  disk.failing = null;
  await run(engine.append(1, bytes, 4));
  disk.wipe();
  const next = process().engine;
  await run(next.open());
  assert.equal(await run(next.getMeta('identity')), null);
});

test('ranges come in order and never split a place; deadlines, deletes and clears', async () => {
  const { process, run } = setup();
  const { engine } = process();
  await run(engine.open());
  const write = async (b: RowBatch) => {
    await run(engine.beginRows());
    await run(engine.writeRows(b));
    await run(engine.commitRows({}));
  };
  const rows = [7, 3, 3, 9, 1].map((pos, i) => ({ key: `k${i}`, pos, value: 'v', deadline: i * 10 }));
  await write(batch(rows));
  const names = async (from: number, to: number, limit: number) =>
    (await run(engine.range(0, from, to, limit))).map((r) => r.key);
  assert.deepEqual(await names(0, 100, 2), ['k4', 'k1', 'k2']);
  assert.deepEqual(await names(3, 9, 100), ['k1', 'k2', 'k0']);
  assert.deepEqual(
    (await run(engine.due(25, 10))).map((r) => r.key),
    ['k1', 'k2'],
  );
  await write(batch([], ['k1']));
  assert.deepEqual(await run(engine.keyNames(0, 0, 100)), ['k4', 'k2', 'k0', 'k3']);
  await run(engine.beginRows());
  await run(engine.clearDb(0));
  await run(engine.rollbackRows());
  assert.equal(await run(engine.isEmpty()), false);
});

test('hints survive the process', async () => {
  const { disk, process, run } = setup();
  const { engine } = process();
  await run(engine.open());
  const hint = { owner: 'n', db: 0, key: 'k' };
  await run(engine.putHints([hint, { ...hint, key: 'l' }]));
  await run(engine.dropHints([{ ...hint, key: 'l' }]));
  disk.release();
  const next = process().engine;
  await run(next.open());
  assert.deepEqual(await run(next.readHints()), [hint]);
});
