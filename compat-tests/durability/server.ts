/**
 * Servers that are killed, refused and started again on the directory they left: unlike those of `lib/servers`, their
 * data belongs to the test. Every process started here ends with the test's process; nothing else is ever signalled.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { freePort } from '../lib/servers.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const READY = 'Ready to accept connections';
const START_TIMEOUT_MS = 30_000;
const STOP_TIMEOUT_MS = 30_000;

const running = new Set<ChildProcess>();
const directories = new Set<string>();
process.once('exit', () => {
  for (const child of running) child.kill('SIGKILL');
  for (const directory of directories) rmSync(directory, { recursive: true, force: true });
});
// a test that is told to end cleans up as well
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => process.exit(1));

/** For `after`: a test that failed half-way leaves servers, and they would keep its file from ending. */
export async function killLeftovers(): Promise<void> {
  for (const child of running) {
    child.kill('SIGKILL');
    await new Promise((resolve) => child.once('exit', resolve));
  }
}

/** A directory that goes away with the test. */
export function freshDirectory(prefix = 'gramme-durability-'): string {
  const directory = mkdtempSync(join(tmpdir(), prefix));
  directories.add(directory);
  return directory;
}

export function removeDirectory(directory: string): void {
  directories.delete(directory);
  rmSync(directory, { recursive: true, force: true });
}

/** A process that was asked to serve, whether it does or not. */
export class Server {
  readonly child: ChildProcess;
  readonly port: number;
  /** Everything it has printed. */
  output = '';
  /** Its exit code; null when a signal ended it. */
  readonly ended: Promise<number | null>;

  constructor(command: string, args: string[], port: number) {
    this.port = port;
    this.child = spawn(command, args, { cwd: ROOT, stdio: ['ignore', 'pipe', 'pipe'] });
    running.add(this.child);
    this.ended = new Promise((resolve) => {
      this.child.once('exit', (code) => {
        running.delete(this.child);
        resolve(code);
      });
    });
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream?.on('data', (chunk: Buffer) => {
        this.output = (this.output + chunk).slice(-200_000);
      });
    }
  }

  get pid(): number {
    return this.child.pid ?? 0;
  }

  /** Resolves once it accepts connections, rejects when it ends or takes too long. */
  async ready(): Promise<this> {
    const deadline = Date.now() + START_TIMEOUT_MS;
    let code: number | null | undefined;
    void this.ended.then((c) => {
      code = c;
    });
    while (!this.output.includes(READY)) {
      if (code !== undefined) throw new Error(`the server ended with ${code}:\n${this.output}`);
      if (Date.now() > deadline) {
        await this.kill();
        throw new Error(`the server did not start:\n${this.output}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    return this;
  }

  /** As a power cut ends it, but for what the operating system has. */
  async kill(): Promise<void> {
    this.child.kill('SIGKILL');
    await this.ended;
  }

  /** As an operator ends it; resolves with the exit code. */
  async stop(): Promise<number | null> {
    this.child.kill('SIGTERM');
    const killer = setTimeout(() => this.child.kill('SIGKILL'), STOP_TIMEOUT_MS);
    const code = await this.ended;
    clearTimeout(killer);
    return code;
  }

  /** Resident memory, in bytes; 0 once it has ended. */
  rss(): number {
    try {
      return Number(readFileSync(`/proc/${this.pid}/statm`, 'latin1').split(' ')[1]) * 4096;
    } catch {
      return 0;
    }
  }
}

/** Asks a server to serve a directory, and doesn't wait for an answer. */
export async function launch(directory: string, ...directives: string[]): Promise<Server> {
  const port = await freePort();
  const args = ['--max-semi-space-size=32', join(ROOT, 'bin/gramme-server')];
  args.push('--bind', '127.0.0.1', '--port', String(port), '--dir', directory, ...directives);
  return new Server(process.execPath, args, port);
}

/** A server that serves. */
export async function start(directory: string, ...directives: string[]): Promise<Server> {
  return (await launch(directory, ...directives)).ready();
}

/** A server that is expected not to start: its exit code and what it said. */
export async function refused(
  directory: string,
  ...directives: string[]
): Promise<{ code: number | null; output: string }> {
  const server = await launch(directory, ...directives);
  const killer = setTimeout(() => server.child.kill('SIGKILL'), START_TIMEOUT_MS);
  const code = await server.ended;
  clearTimeout(killer);
  // the pipes may hold the last words a little longer than the process lives
  await new Promise((resolve) => setTimeout(resolve, 20));
  return { code, output: server.output };
}

export const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));
