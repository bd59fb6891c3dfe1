// redis-cli and redis-benchmark, the tools everybody reaches for first.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { test } from 'node:test';
import { hasTool } from '../lib/servers.ts';
import { onEveryServer, type Target } from './targets.ts';

interface Outcome {
  code: number | null;
  stdout: string;
  stderr: string;
}

function run(tool: string, target: Target, args: string[], input = ''): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const child = spawn(tool, ['-h', target.host, '-p', String(target.port), ...args]);
    const outcome: Outcome = { code: null, stdout: '', stderr: '' };
    const killer = setTimeout(() => child.kill('SIGKILL'), 30_000);
    child.stdout.on('data', (chunk: Buffer) => {
      outcome.stdout += chunk.toString();
    });
    child.stderr.on('data', (chunk: Buffer) => {
      outcome.stderr += chunk.toString();
    });
    child.once('error', reject);
    child.once('close', (code) => {
      clearTimeout(killer);
      resolve({ ...outcome, code });
    });
    child.stdin.on('error', () => {});
    child.stdin.end(input);
  });
}

const noCli = !hasTool('redis-cli') && 'no redis-cli installed';
const noBenchmark = !hasTool('redis-benchmark') && 'no redis-benchmark installed';

onEveryServer('redis-cli', (target) => {
  const cli = (args: string[], input?: string) => run('redis-cli', target, args, input);
  const says = async (args: string[], stdout: string) =>
    assert.deepEqual(await cli(args), { code: 0, stdout, stderr: '' }, args.join(' '));

  test('one command at a time', { skip: noCli }, async () => {
    await says(['SET', 'k', 'hello world'], 'OK\n');
    await says(['GET', 'k'], 'hello world\n');
    await says(['GET', 'missing'], '\n');
    await says(['INCR', 'n'], '1\n');
    await says(['--no-raw', 'GET', 'k'], '"hello world"\n');
    await says(['--no-raw', 'GET', 'missing'], '(nil)\n');
    await says(['--no-raw', 'MGET', 'k', 'missing'], '1) "hello world"\n2) (nil)\n');
    await says(['--no-raw', 'INCR', 'k'], '(error) ERR value is not an integer or out of range\n');
    await says(['-n', '3', 'SET', 'k', 'three'], 'OK\n');
    await says(['-n', '3', 'GET', 'k'], 'three\n');
    await says(['GET', 'k'], 'hello world\n');
    await says(['-r', '3', 'INCR', 'n'], '2\n3\n4\n');
    await says(['--json', 'MGET', 'k', 'missing'], '["hello world",null]\n');
    const failing = await cli(['-e', 'INCR', 'k']);
    assert.notEqual(failing.code, 0);
  });

  test('in RESP3', { skip: noCli }, async () => {
    await says(['-3', 'SET', 'k', 'v'], 'OK\n');
    await says(['-3', '--no-raw', 'GET', 'missing'], '(nil)\n');
    await says(['-3', '--no-raw', 'CONFIG', 'GET', 'timeout'], '1# "timeout" => "0"\n');
  });

  test('commands and values from standard input', { skip: noCli }, async () => {
    const outcome = await cli([], 'SET a 1\nINCR a\nGET a\nNOSUCH\n');
    assert.match(outcome.stdout, /^OK\n2\n2\nERR unknown command 'NOSUCH', with args beginning with: \n/);
    await says(['SET', 'k', 'x'], 'OK\n');
    assert.equal((await cli(['-x', 'SET', 'k'], 'from stdin')).stdout, 'OK\n');
    await says(['GET', 'k'], 'from stdin\n');
  });

  test('mass insertion', { skip: noCli }, async () => {
    let commands = '';
    for (let i = 0; i < 5000; i++) {
      const key = `mass:${i}`;
      commands += `*3\r\n$3\r\nSET\r\n$${key.length}\r\n${key}\r\n$5\r\nvalue\r\n`;
    }
    const outcome = await cli(['--pipe'], commands);
    assert.equal(outcome.code, 0, outcome.stderr);
    assert.match(outcome.stdout, /errors: 0, replies: 5000/);
    await says(['DBSIZE'], '5000\n');
    await says(['GET', 'mass:4999'], 'value\n');
    const inline = await cli(['--pipe'], 'SET inline:1 a\r\nSET inline:2 b\r\nINCR inline:1\r\n');
    assert.match(inline.stdout + inline.stderr, /errors: 1, replies: 3/);
  });

  test('scanning and looking for big keys', { skip: noCli }, async () => {
    const keys = Array.from({ length: 300 }, (_, i) => `scan:${i}`);
    await says(['MSET', ...keys.flatMap((key, i) => [key, 'x'.repeat(i)])], 'OK\n');
    await says(['SET', 'other', 'v'], 'OK\n');
    const scanned = await cli(['--scan', '--pattern', 'scan:*']);
    assert.deepEqual(scanned.stdout.trim().split('\n').sort(), [...keys].sort());
    const big = await cli(['--bigkeys']);
    assert.equal(big.code, 0, big.stderr);
    assert.match(big.stdout, /Biggest string found ['"]+scan:299['"]+ has 299 bytes/);
    assert.match(big.stdout, /301 strings with \d+ bytes/);
    const memory = await cli(['--memkeys']);
    assert.equal(memory.code, 0, memory.stderr);
    assert.match(memory.stdout, /Biggest string found ['"]+scan:\d+['"]+ has \d+ bytes/);
  });

  test('redis-benchmark', { skip: noBenchmark }, async () => {
    const args = ['-t', 'set,get,incr,mset', '-P', '16', '-n', '20000', '-q'];
    const outcome = await run('redis-benchmark', target, args);
    assert.equal(outcome.code, 0, outcome.stderr);
    assert.doesNotMatch(outcome.stdout + outcome.stderr, /error|warning/i);
    for (const name of ['SET', 'GET', 'INCR', 'MSET']) {
      assert.match(outcome.stdout, new RegExp(`${name}.*: [\\d.]+ requests per second`));
    }
  });

  test('redis-benchmark in RESP3, with random keys', { skip: noBenchmark }, async () => {
    const outcome = await run('redis-benchmark', target, [
      '-3',
      '-t',
      'set,get',
      '-r',
      '1000',
      '-n',
      '5000',
      '-c',
      '20',
      '-q',
    ]);
    assert.equal(outcome.code, 0, outcome.stderr);
    assert.doesNotMatch(outcome.stdout + outcome.stderr, /error|warning/i);
  });
});
