import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Argv } from '../resp/argv.ts';
import type { Client } from './client.ts';
import { Config } from './config.ts';
import { CommandStat, Stats } from './stats.ts';

const client = { name: 'n', connection: { remote: '127.0.0.1:5' } } as unknown as Client;

function make() {
  const clock = { ms: 1000, now: () => clock.ms, monotonic: () => clock.ms };
  const config = new Config();
  return { clock, config, stats: new Stats(clock, config) };
}

test('a command counts its calls and their time', () => {
  const { stats } = make();
  const get = new CommandStat('get');
  for (let i = 0; i < 90; i++) stats.called(get, 3);
  for (let i = 0; i < 10; i++) stats.called(get, 1000);
  assert.equal(get.calls, 100);
  assert.equal(get.totalUsec(), 90 * 3 + 10_000);
  assert.equal(get.percentile(50), 3);
  assert.equal(get.percentile(99), 1000);
  assert.deepEqual(get.cumulative(), [
    [4, 90],
    [1056, 100],
  ]);
  stats.reset([get]);
  assert.equal(get.calls, 0);
  assert.deepEqual(get.cumulative(), []);
});

test('calls that were not timed are reckoned as the others', () => {
  const { stats } = make();
  const get = new CommandStat('get');
  stats.called(get, 10);
  stats.called(get, 20);
  get.calls += 8;
  assert.equal(get.totalUsec(), 150);
  assert.equal(get.cumulative().at(-1)![1], 10);
});

test('percentiles are within a quarter of the truth', () => {
  const { stats } = make();
  const stat = new CommandStat('x');
  for (let usec = 1; usec <= 100_000; usec += 7) stats.called(stat, usec);
  for (const p of [1, 10, 50, 90, 99, 99.9]) {
    const truth = p * 1000;
    const found = stat.percentile(p);
    assert.ok(found >= truth * 0.99 && found <= truth * 1.26 + 8, `${p}: ${found} for ${truth}`);
  }
  assert.equal(stat.cumulative().at(-1)![1], stat.calls);
});

test('without tracking there is no histogram', () => {
  const { stats, config } = make();
  assert.equal(config.set([['latency-tracking', 'no']]), null);
  const stat = new CommandStat('x');
  stats.called(stat, 5);
  assert.equal(stat.histogram, null);
  assert.equal(stat.percentile(50), 0);
});

test('error replies are counted by code', () => {
  const { stats } = make();
  for (const text of ['ERR no', '-ERR no', 'WRONGTYPE Operation', 'NOAUTH']) stats.errorReply(text);
  assert.deepEqual(
    [...stats.errors],
    [
      ['ERR', 2],
      ['WRONGTYPE', 1],
      ['NOAUTH', 1],
    ],
  );
  for (let i = 0; i < 1000; i++) stats.errorReply(`E${i} invented`);
  assert.ok(stats.errors.size <= 128);
  assert.equal(stats.totalErrorReplies, 1004);
});

test('rates are averages of the last samples', () => {
  const { stats, clock } = make();
  stats.cron();
  for (let i = 0; i < 40; i++) {
    stats.commands += 50;
    stats.netIn += 1024;
    clock.ms += 100;
    stats.cron();
  }
  assert.equal(stats.operationsPerSecond(), 500);
  assert.equal(stats.inputKbps(), 10);
  assert.equal(stats.outputKbps(), 0);
  stats.reset([]);
  clock.ms += 100;
  stats.cron();
  assert.equal(stats.operationsPerSecond(), 0);
});

test('the slow log truncates as Redis does and keeps the latest', () => {
  const { stats, config, clock } = make();
  stats.slow(9_999, Argv.from(['GET']), client);
  assert.equal(stats.slowlog.length, 0);
  const settings = [
    ['slowlog-max-len', '2'],
    ['slowlog-log-slower-than', '0'],
  ] as const;
  assert.equal(config.set(settings), null);
  stats.slow(1, Argv.from(['GET', 'a']), client);
  clock.ms = 6000;
  stats.slow(2, Argv.from(['SET', 'a', 'v'.repeat(200)]), client);
  clock.ms = 7000;
  stats.slow(3.4, Argv.from(['DEL', ...Array.from({ length: 40 }, (_, i) => `k${i}`)]), client);
  const [first, second] = stats.slowlog;
  assert.deepEqual([first.id, first.time, second.id, second.time, second.usec], [1, 6, 2, 7, 3]);
  assert.equal(first.args[2], `${'v'.repeat(128)}... (72 more bytes)`);
  assert.equal(second.args.length, 32);
  assert.equal(second.args[31], '... (10 more arguments)');
  config.set([['slowlog-log-slower-than', '-1']]);
  stats.slow(1e9, Argv.from(['GET', 'a']), client);
  assert.equal(stats.slowlog.length, 2);
});

test('the latency monitor keeps the worst of each second', () => {
  const { stats, config, clock } = make();
  stats.latency('command', 50);
  assert.equal(stats.events.size, 0);
  config.set([['latency-monitor-threshold', '10']]);
  stats.latency('command', 9);
  stats.latency('command', 50.7);
  stats.called(new CommandStat('x'), 20_000);
  clock.ms = 2000;
  stats.called(new CommandStat('x'), 30_000);
  const e = stats.events.get('command')!;
  assert.deepEqual(e.samples, [
    { time: 1, ms: 50 },
    { time: 2, ms: 30 },
  ]);
  assert.equal(e.max, 50);
  for (let s = 3; s < 400; s++) {
    clock.ms = s * 1000;
    stats.latency('command', 11);
  }
  assert.equal(e.samples.length, 160);
  assert.equal(stats.resetLatency(['nope']), 0);
  assert.equal(stats.resetLatency(['command']), 1);
});
