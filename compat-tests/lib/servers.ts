// Starts and stops the servers under test. Every process started here is remembered and ended again,
// also when the run fails; nothing else is ever signalled.

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export interface Address {
  host: string;
  port: number;
  password?: string;
}

export interface RunningServer extends Address {
  name: string;
  stop(): Promise<void>;
}

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const START_TIMEOUT_MS = 20_000;
const STOP_TIMEOUT_MS = 5_000;

const running = new Set<ChildProcess>();
process.once('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

/** A port nobody listens on at this moment. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once('error', reject);
    probe.listen(0, '127.0.0.1', () => {
      const address = probe.address();
      probe.close(() =>
        address && typeof address === 'object' ? resolve(address.port) : reject(new Error('no port')),
      );
    });
  });
}

let redisInstalled: boolean | undefined;

/** Whether replies can be compared with a live Redis; `COMPAT_REFERENCE=recorded` pretends there is none. */
export function hasRedisServer(): boolean {
  if (process.env['COMPAT_REFERENCE'] === 'recorded') return false;
  redisInstalled ??= spawnSync('redis-server', ['--version']).status === 0;
  return redisInstalled;
}

export function hasTool(name: string): boolean {
  return spawnSync(name, ['--version']).error === undefined;
}

function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve();
  return new Promise((resolve) => child.once('exit', () => resolve()));
}

async function start(name: string, command: string, args: string[], dir: string, port: number): Promise<RunningServer> {
  const child = spawn(command, args, { cwd: ROOT, stdio: ['ignore', 'pipe', 'pipe'] });
  running.add(child);
  let output = '';
  const stop = async () => {
    if (child.exitCode === null && child.signalCode === null) {
      child.kill('SIGTERM');
      const killer = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS);
      await ended(child);
      clearTimeout(killer);
    }
    running.delete(child);
    rmSync(dir, { recursive: true, force: true });
  };
  try {
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`${name} did not start:\n${output}`)), START_TIMEOUT_MS);
      const read = (chunk: Buffer) => {
        if (output.length < 100_000) output += chunk.toString();
        if (!output.includes('Ready to accept connections')) return;
        clearTimeout(timer);
        resolve();
      };
      child.stdout.on('data', read);
      child.stderr.on('data', read);
      child.once('error', reject);
      child.once('exit', (code) => {
        clearTimeout(timer);
        reject(new Error(`${name} ended at once with ${code}:\n${output}`));
      });
    });
  } catch (error) {
    await stop();
    throw error;
  }
  return { name, host: '127.0.0.1', port, stop };
}

/** The reference: a real redis-server that keeps nothing on disk. */
export async function startRedis(options: { password?: string } = {}): Promise<RunningServer> {
  const port = await freePort();
  const dir = mkdtempSync(join(tmpdir(), 'compat-redis-'));
  const args = ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no', '--dir', dir];
  if (options.password !== undefined) args.push('--requirepass', options.password);
  return { ...(await start('redis-server', 'redis-server', args, dir, port)), password: options.password };
}

export async function startGramme(): Promise<RunningServer> {
  const port = await freePort();
  const dir = mkdtempSync(join(tmpdir(), 'compat-gramme-'));
  const args = ['--max-semi-space-size=32', join(ROOT, 'bin/gramme-server'), '--port', String(port), '--dir', dir];
  return start('gramme-server', process.execPath, args, dir, port);
}
