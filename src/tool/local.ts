/**
 * `gramme local`: a whole cluster on this machine, for trying things out. It lives as long as the command does.
 *
 * The servers are ordinary ones, each with its directory and its log below `--dir`. None is started again when it ends, so
 * that one can be killed to see what happens.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { fileURLToPath } from 'node:url';
import { ToolConnection } from './connection.ts';
import { type Fields, listOf, pairs, say, sayJson, sleep } from './target.ts';

const BUS_PORT_OFFSET = 10_000;
const MAX_NODES = 64;
const POLL_MS = 100;
const LOOK_MS = 300;
/** How long servers have to stop before they are killed, in ms. */
const STOP_MS = 20_000;
const CONNECT_MS = 1000;

export interface LocalOptions {
  port: string;
  dir: string;
  n?: string;
  r?: string;
  w?: string;
  partitions?: string;
  password?: string;
  json?: boolean;
}

interface LocalNode {
  number: number;
  port: number;
  child: ChildProcess;
  ended: boolean;
}

const SERVER = fileURLToPath(new URL('../../bin/gramme-server', import.meta.url));

/** Kept with the data, so that the same cluster can be started again. */
function secretIn(directory: string): string {
  const file = path.join(directory, 'secret');
  if (!fs.existsSync(file)) fs.writeFileSync(file, randomBytes(32).toString('hex'), { mode: 0o600 });
  return fs.readFileSync(file, 'utf8').trim();
}

function start(number: number, port: number, directives: string[], directory: string): LocalNode {
  const log = fs.openSync(path.join(directory, `node-${number}.log`), 'a');
  const data = path.join(directory, `node-${number}`);
  fs.mkdirSync(data, { recursive: true });
  // compiled only: plain node can't load it otherwise
  const guard = import.meta.url.endsWith('.js') ? ['--import', new URL('./guard.js', import.meta.url).href] : [];
  const args = [
    '--max-semi-space-size=32',
    '--no-parallel-scavenge',
    ...guard,
    SERVER,
    '--port',
    String(port),
    '--dir',
    data,
    ...directives,
  ];
  const child = spawn(process.execPath, args, { stdio: ['ignore', log, log] });
  fs.closeSync(log);
  return { number, port, child, ended: false };
}

/** The ring as a node sees it, or null while it does not answer. */
async function ringOf(port: number, password: string | undefined): Promise<Fields | null> {
  try {
    const node = await ToolConnection.open('127.0.0.1', port, password, CONNECT_MS);
    try {
      return pairs(await node.ask(CONNECT_MS, 'DYNAMO', 'RING'));
    } finally {
      node.close();
    }
  } catch {
    return null;
  }
}

/** Every node owns its share, holds it, and sees the others. */
async function isReady(nodes: readonly LocalNode[], password: string | undefined): Promise<boolean> {
  const rings = await Promise.all(nodes.map((n) => ringOf(n.port, password)));
  const ids = rings.map((r) => String(listOf(r?.['nodes'] ?? null).find((x) => x['state'] === 'self')?.['id'] ?? ''));
  return rings.every((r) => {
    if (r === null || Number(r['moving']) !== 0 || r['layout'] !== rings[0]?.['layout']) return false;
    const list = listOf(r['nodes']);
    return ids.every((id) => {
      const x = list.find((y) => y['id'] === id);
      return x !== undefined && Number(x['partitions']) > 0 && (x['state'] === 'self' || x['state'] === 'alive');
    });
  });
}

/** Resolves with the exit code once all servers have ended. */
export async function local(count: string, directives: string[], options: LocalOptions): Promise<number> {
  const size = Number(count);
  const first = Number(options.port);
  if (!Number.isInteger(size) || size < 1 || size > MAX_NODES) throw new Error(`NODES is a number up to ${MAX_NODES}`);
  if (!Number.isInteger(first) || first < 1 || first + size + BUS_PORT_OFFSET > 65_536)
    throw new Error(`--port must leave room for the bus ports, ${BUS_PORT_OFFSET} above the client ports`);
  const directory = path.resolve(options.dir);
  fs.mkdirSync(directory, { recursive: true });
  const ports = Array.from({ length: size }, (_, i) => first + i);
  const common = ['--cluster-seeds', ports.map((p) => `127.0.0.1:${p + BUS_PORT_OFFSET}`).join(' ')];
  common.push('--cluster-auto-join', 'yes', '--cluster-secret', secretIn(directory), '--bind', '127.0.0.1');
  if (options.password !== undefined) common.push('--requirepass', options.password);
  for (const name of ['n', 'r', 'w', 'partitions'] as const)
    if (options[name] !== undefined) common.push(`--cluster-${name}`, options[name]);
  const nodes = ports.map((port, i) =>
    start(i + 1, port, [...common, '--cluster-port', String(port + BUS_PORT_OFFSET), ...directives], directory),
  );
  return new Cluster(nodes, directory, options).run();
}

class Cluster {
  private readonly nodes: LocalNode[];
  private readonly directory: string;
  private readonly options: LocalOptions;
  private stopping = false;
  private ready = false;

  constructor(nodes: LocalNode[], directory: string, options: LocalOptions) {
    this.nodes = nodes;
    this.directory = directory;
    this.options = options;
  }

  private get running(): LocalNode[] {
    return this.nodes.filter((n) => !n.ended);
  }

  private signal(name: 'SIGTERM' | 'SIGKILL'): void {
    for (const n of this.running) n.child.kill(name);
  }

  private readonly stop = (): void => {
    // asked twice: at once
    this.signal(this.stopping ? 'SIGKILL' : 'SIGTERM');
    if (this.stopping) return;
    this.stopping = true;
    setTimeout(() => this.signal('SIGKILL'), STOP_MS).unref();
  };

  /** Stops when whoever started this is gone: its process, or the other end of the pipe that is our input. */
  private followParent(): void {
    const parent = process.ppid;
    setInterval(() => {
      if (process.ppid !== parent && !this.stopping) this.stop();
    }, LOOK_MS).unref();
    let piped = false;
    try {
      const input = fs.fstatSync(0);
      piped = input.isFIFO() || input.isSocket();
    } catch {
      // no input at all
    }
    if (!piped) return;
    // an input that was at its end from the start says nothing
    process.stdin.on('end', () => {
      if (this.ready && !this.stopping) this.stop();
    });
    process.stdin.on('error', () => {});
    process.stdin.resume();
    process.stdin.unref?.();
  }

  async run(): Promise<number> {
    const over = Promise.all(
      this.nodes.map(
        (n) =>
          new Promise<void>((resolve) => {
            n.child.once('error', (error) => say(`node ${n.number} could not be started: ${error.message}`));
            n.child.once('close', (code, signal) => {
              n.ended = true;
              if (!this.stopping) say(`node ${n.number} has ended: ${signal ?? `exit code ${code}`}`);
              resolve();
            });
          }),
      ),
    );
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, this.stop);
    process.once('exit', () => this.signal('SIGKILL'));
    this.followParent();
    for (const n of this.nodes)
      if (!this.options.json) say(`node ${n.number}  127.0.0.1:${n.port}  pid ${n.child.pid}`);
    void this.announce();
    await over;
    if (!this.stopping && !this.ready) {
      const log = path.join(this.directory, 'node-1.log');
      process.stderr.write(`gramme: no server is left; ${log} and its neighbours say why\n`);
    }
    return this.stopping ? 0 : 1;
  }

  private async announce(): Promise<void> {
    while (!this.stopping && this.running.length === this.nodes.length) {
      if (await isReady(this.nodes, this.options.password)) {
        this.ready = true;
        if (this.options.json)
          sayJson({ nodes: this.nodes.map((n) => ({ number: n.number, port: n.port, pid: n.child.pid })) });
        say('cluster ready');
        return;
      }
      await sleep(POLL_MS);
    }
  }
}
