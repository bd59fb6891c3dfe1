/**
 * Wires the real platform to the server: what `bin/gramme-server` runs.
 */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { GrammeError } from './base/errors.ts';
import { HttpPages } from './platform/http.ts';
import { openLog } from './platform/log.ts';
import { PrometheusMetrics } from './platform/metrics.ts';
import { SqliteEngine } from './platform/sqlite.ts';
import { keepHeapTight, systemClock, systemHost, systemRandom, systemTimers } from './platform/system.ts';
import { TcpTransport } from './platform/tcp.ts';
import { Config, parseArguments, parseConfigText } from './server/config.ts';
import { registerMetrics } from './server/metrics.ts';
import { openNode } from './server/node.ts';
import { ringPages } from './server/ring-page.ts';
import { VERSION } from './server/version.ts';

const MB = 1024 * 1024;
/** With a `maxmemory` below this many bytes the heap is kept near what is live. */
const TIGHT_BELOW = 1024 * MB;

const USAGE = `Usage: gramme-server [/path/to/gramme.conf] [--directive value ...]
       gramme-server -v | --version
       gramme-server -h | --help

Examples:
       gramme-server
       gramme-server conf/gramme.conf
       gramme-server --port 7777 --dir /var/lib/gramme --appendfsync always
`;

/** Runs a server until it is told to stop. Resolves with the process's exit code. */
export async function main(argv: string[]): Promise<number> {
  let config: Config;
  try {
    const args = parseArguments(argv);
    if (args.help) {
      process.stdout.write(USAGE);
      return 0;
    }
    if (args.version) {
      process.stdout.write(`gramme-server ${VERSION}\n`);
      return 0;
    }
    const read = (file: string) => fs.readFileSync(file, 'utf8');
    const settings =
      args.file === null ? [] : parseConfigText(read(args.file === '-' ? '/dev/stdin' : args.file), read, args.file);
    config = new Config([...settings, ...args.settings]);
    if (args.file !== null && args.file !== '-') {
      const file = path.resolve(args.file);
      config.file = file;
      config.rewriteFile = (change) => rewrite(file, change);
    }
  } catch (error) {
    process.stderr.write(`gramme-server: ${error instanceof Error ? error.message : String(error)}\n`);
    return 1;
  }
  const log = openLog(config.get('loglevel'), config.get('logfile'));
  config.onChange('loglevel', () => log.setLevel(config.get('loglevel')));
  for (const warning of config.warnings) log.warn({}, warning);
  try {
    return await serve(config, log);
  } catch (error) {
    const known = error instanceof GrammeError;
    log.error(
      { code: known ? error.code : undefined, error: known ? error.message : String((error as Error).stack ?? error) },
      'the server could not start',
    );
    process.stderr.write(`gramme-server: ${error instanceof Error ? error.message : String(error)}\n`);
    return 1;
  }
}

/** CONFIG REWRITE: the whole new file beside the old one, then in its place, so that no crash leaves half of it. */
async function rewrite(file: string, change: (oldText: string) => string): Promise<void> {
  const text = change(fs.existsSync(file) ? fs.readFileSync(file, 'utf8') : '');
  const beside = `${file}.${process.pid}.tmp`;
  fs.writeFileSync(beside, text);
  fs.renameSync(beside, file);
}

async function serve(config: Config, log: ReturnType<typeof openLog>): Promise<number> {
  const directory = path.resolve(config.get('dir'));
  const limit = config.num('maxmemory');
  // the fold writes best with much of the tree in cache; a small maxmemory means a small server
  const cacheBytes = limit === 0 ? 256 * MB : Math.min(256 * MB, Math.max(8 * MB, limit / 4));
  if (limit > 0 && limit < TIGHT_BELOW) keepHeapTight();
  let stopped: (code: number) => void = () => {};
  const done = new Promise<number>((resolve) => {
    stopped = resolve;
  });
  const server = await openNode(
    {
      engine: new SqliteEngine({ directory, log, cacheBytes }),
      transport: new TcpTransport(),
      clock: systemClock,
      timers: systemTimers,
      random: systemRandom,
      host: systemHost,
      log,
    },
    config,
    () => stopped(0),
  );
  const stop = () => {
    server.shutdown().catch((error) => {
      log.error({ error: String(error) }, 'stopping failed; the journal is kept and replayed at the next start');
      stopped(1);
    });
  };
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);
  let addresses: string[];
  try {
    addresses = await server.listen();
  } catch (error) {
    await server.store.close();
    throw error;
  }
  if (config.num('metrics-port') > 0) {
    const metrics = new PrometheusMetrics();
    registerMetrics(server, metrics);
    const pages = new HttpPages([...ringPages(server), metrics.page]);
    addresses.push(`http://${await pages.listen(config.get('metrics-bind'), config.num('metrics-port'))}`);
    void done.then(() => pages.close());
  }
  await server.joined();
  log.info({ addresses, directory, version: VERSION, node: server.nodeId }, 'Ready to accept connections');
  return done;
}
