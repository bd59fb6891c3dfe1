/**
 * Looking at a running server: SLOWLOG, LATENCY, MEMORY and MONITOR.
 */
import { ReplyError, SYNTAX_ERROR } from '../base/errors.ts';
import type { LatencyEvent } from '../server/stats.ts';
import { integer } from './args.ts';
import type { CommandContext, CommandSpec } from './command.ts';
import { containerAlone, helpCommand } from './help.ts';
import { humanBytes, memoryUse } from './info.ts';

// ------------------------------------------------------------------ SLOWLOG

const SLOWLOG_COUNT = new ReplyError('ERR count should be greater than or equal to -1');
const SLOWLOG_DEFAULT = 10;

function slowlogGet(c: CommandContext): void {
  const { argv, out } = c;
  if (argv.argc > 3) {
    throw new ReplyError(`ERR unknown subcommand or wrong number of arguments for '${argv.str(1)}'. Try SLOWLOG HELP.`);
  }
  let count = SLOWLOG_DEFAULT;
  if (argv.argc === 3) {
    count = argv.int(2);
    if (!(count >= -1)) throw SLOWLOG_COUNT;
  }
  const { slowlog } = c.server.stats;
  const shown = count < 0 ? slowlog.length : Math.min(count, slowlog.length);
  out.array(shown);
  for (let i = 0; i < shown; i++) {
    const e = slowlog[slowlog.length - 1 - i];
    out.array(6);
    out.int(e.id);
    out.int(e.time);
    out.int(e.usec);
    out.array(e.args.length);
    for (const arg of e.args) out.bulk(arg);
    out.bulk(e.peer);
    out.bulk(e.name);
  }
}

function slowlogLen(c: CommandContext): void {
  c.out.int(c.server.stats.slowlog.length);
}

function slowlogReset(c: CommandContext): void {
  c.server.stats.slowlog.length = 0;
  c.out.ok();
}

// ------------------------------------------------------------------ LATENCY

function latencyLatest(c: CommandContext): void {
  const { out } = c;
  const { events } = c.server.stats;
  out.array(events.size);
  for (const e of events.values()) {
    const last = e.samples[e.samples.length - 1];
    out.array(4);
    out.bulk(e.name);
    out.int(last.time);
    out.int(last.ms);
    out.int(e.max);
  }
}

function latencyHistory(c: CommandContext): void {
  const { out } = c;
  const samples = c.server.stats.events.get(c.argv.str(2))?.samples ?? [];
  out.array(samples.length);
  for (const { time, ms } of samples) {
    out.array(2);
    out.int(time);
    out.int(ms);
  }
}

function latencyReset(c: CommandContext): void {
  c.out.int(c.server.stats.resetLatency(c.argv.strings(2)));
}

const GRAPH_ROWS = 5;

/** Bars of the samples, the oldest at the left, and under each how long ago it was. */
function drawLatency(e: LatencyEvent, nowSeconds: number): string {
  const low = Math.min(...e.samples.map((s) => s.ms));
  const high = Math.max(...e.samples.map((s) => s.ms));
  const heights = e.samples.map((s) =>
    high === low ? 1 : 1 + Math.round(((s.ms - low) / (high - low)) * (GRAPH_ROWS - 1)),
  );
  let text = `${e.name} - high ${high} ms, low ${low} ms (all time high ${e.max} ms)\n${'-'.repeat(80)}\n`;
  for (let row = GRAPH_ROWS; row >= 1; row--)
    text += `${heights
      .map((h) => (h >= row ? '#' : ' '))
      .join('')
      .trimEnd()}\n`;
  const ages = e.samples.map((s) => age(Math.max(0, nowSeconds - s.time)));
  const longest = Math.max(...ages.map((a) => a.length));
  text += '\n';
  for (let i = 0; i < longest; i++)
    text += `${ages
      .map((a) => a[i] ?? ' ')
      .join('')
      .trimEnd()}\n`;
  return text;
}

function age(seconds: number): string {
  if (seconds < 60) return `${seconds}s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)}h`;
  return `${Math.floor(seconds / 86400)}d`;
}

function latencyGraph(c: CommandContext): void {
  const event = c.argv.str(2);
  const e = c.server.stats.events.get(event);
  if (e === undefined) throw new ReplyError(`ERR No samples available for event '${event}'`);
  c.out.verbatim(drawLatency(e, Math.floor(c.now / 1000)));
}

/** What to do about each event that the monitor knows. */
const ADVICE: Record<string, string> = {
  command: 'Look at SLOWLOG for the commands that took long; commands over large values and KEYS are the usual ones.',
  'fast-command': 'Commands that should be fast were not: is the machine busy, or out of memory?',
  'journal-fsync': 'The disk is slow to sync. See appendfsync, and what else writes to that disk.',
  fold: 'Folding the journal into rows took long. A faster disk helps, and so does a larger maxmemory.',
};

function latencyDoctor(c: CommandContext): void {
  const { stats } = c.server;
  let text: string;
  if (stats.latencyThreshold === 0) {
    text =
      'The latency monitor is off. Turn it on with CONFIG SET latency-monitor-threshold <milliseconds>, ' +
      'and it will keep every event that takes at least so long.\n';
  } else if (stats.events.size === 0) {
    text = `Nothing took ${stats.latencyThreshold} ms or longer since the latency monitor was turned on or reset.\n`;
  } else {
    text = `Events that took ${stats.latencyThreshold} ms or longer:\n`;
    for (const e of stats.events.values()) {
      const mean = e.samples.reduce((sum, s) => sum + s.ms, 0) / e.samples.length;
      text += `\n${e.name}: ${e.samples.length} samples, ${mean.toFixed(1)} ms on average, ${e.max} ms at worst.\n`;
      if (ADVICE[e.name] !== undefined) text += `  ${ADVICE[e.name]}\n`;
    }
  }
  c.out.verbatim(text);
}

function latencyHistogram(c: CommandContext): void {
  const { argv, out } = c;
  const { table } = c.server;
  let chosen = table.all;
  if (argv.argc > 2) {
    // a container stands for its subcommands
    const names = argv.strings(2).map((s) => s.toLowerCase());
    chosen = names.flatMap((name) =>
      table.all.filter((each) => each.fullName === name || each.fullName.startsWith(`${name}|`)),
    );
  }
  const stats = chosen.map((each) => each.stat).filter((stat) => stat.histogram !== null);
  out.map(stats.length);
  for (const stat of stats) {
    const pairs = stat.cumulative();
    out.bulk(stat.name);
    out.map(2);
    out.bulk('calls');
    out.int(stat.calls);
    out.bulk('histogram_usec');
    out.map(pairs.length);
    for (const [usec, calls] of pairs) {
      out.int(usec);
      out.int(calls);
    }
  }
}

// ------------------------------------------------------------------ MEMORY

function memoryUsage(c: CommandContext): void {
  const { argv, out } = c;
  if (argv.argc % 2 === 0) throw SYNTAX_ERROR;
  for (let i = 3; i < argv.argc; i += 2) {
    if (!argv.is(i, 'SAMPLES')) throw SYNTAX_ERROR;
    if (integer(argv, i + 1) < 0) throw SYNTAX_ERROR;
  }
  const { keys, db } = c;
  const a = keys.peekRecord(db, argv.buf, argv.offsets[4], argv.offsets[5]);
  if (a !== 0) {
    out.int(keys.packed.cost(a));
    return;
  }
  const o = keys.peek(db, argv.str(2), c.slot(2));
  if (o === null) out.nil();
  else out.int(o.cost);
}

/** A ratio as Redis prints doubles in this reply. */
function ratio(n: number): string {
  return Number.isFinite(n) ? String(n) : '0';
}

function memoryStats(c: CommandContext): void {
  const { out, server } = c;
  server.keys.needsAll();
  const { used, rss, peak, keys } = memoryUse(server);
  let count = 0;
  for (const db of server.keys.databases) count += db.keys;
  const overhead = Math.max(0, used - keys);
  const fields: [string, number | string][] = [
    ['peak.allocated', peak],
    ['total.allocated', used],
    ['startup.allocated', 0],
    ['replication.backlog', 0],
    ['clients.slaves', 0],
    ['clients.normal', 0],
    ['cluster.links', 0],
    ['aof.buffer', 0],
    ['lua.caches', 0],
    ['functions.caches', 0],
    ['overhead.total', overhead],
    ['keys.count', count],
    ['keys.bytes-per-key', count > 0 ? Math.floor(keys / count) : 0],
    ['dataset.bytes', keys],
    ['dataset.percentage', ratio((keys / used) * 100)],
    ['peak.percentage', ratio((used / peak) * 100)],
    ['allocator.allocated', used],
    ['allocator.active', used],
    ['allocator.resident', rss],
    ['allocator-fragmentation.ratio', '1'],
    ['allocator-fragmentation.bytes', 0],
    ['allocator-rss.ratio', ratio(rss / used)],
    ['allocator-rss.bytes', Math.max(0, rss - used)],
    ['rss-overhead.ratio', '1'],
    ['rss-overhead.bytes', 0],
    ['fragmentation', ratio(rss / used)],
    ['fragmentation.bytes', Math.max(0, rss - used)],
  ];
  out.map(fields.length);
  for (const [name, value] of fields) {
    out.bulk(name);
    if (typeof value === 'number') out.int(value);
    else out.double(value);
  }
}

/** Share of the heap's limit above which the doctor worries. */
const HEAP_WORRY = 0.9;
/** Unfolded journal above which the doctor worries, in bytes. */
const BACKLOG_WORRY = 256 * 1024 * 1024;

function memoryDoctor(c: CommandContext): void {
  const { server } = c;
  const { used } = memoryUse(server);
  const limit = server.host.heapLimitBytes();
  const findings: string[] = [];
  if (used > limit * HEAP_WORRY) {
    findings.push(
      `The heap uses ${humanBytes(used)} of the ${humanBytes(limit)} that it may: lower maxmemory, or start node with a larger --max-old-space-size.`,
    );
  }
  if (server.store.journal.backlogBytes > BACKLOG_WORRY) {
    findings.push('Writes come faster than they are folded into rows; what is not folded yet stays in memory.');
  }
  let unsent = 0;
  for (const client of server.clients.values()) unsent += client.connection.pending();
  if (unsent > limit / 10)
    findings.push(`Clients have not taken ${humanBytes(unsent)} of replies; see omem in CLIENT LIST.`);
  c.out.verbatim(findings.length === 0 ? 'No memory problem was found.\n' : `${findings.join('\n')}\n`);
}

function memoryMallocStats(c: CommandContext): void {
  const { host } = c.server;
  const { used, rss } = memoryUse(c.server);
  c.out.verbatim(`${host.runtime}\nheap used: ${used}\nheap limit: ${host.heapLimitBytes()}\nresident: ${rss}\n`);
}

function memoryPurge(c: CommandContext): void {
  c.out.ok();
}

// ------------------------------------------------------------------ MONITOR

function monitor(c: CommandContext): void {
  c.client.monitor = true;
  c.server.monitors.add(c.client);
  c.out.ok();
}

// ------------------------------------------------------------------ the table's part

/** A subcommand's entry; what is left out is the usual. */
type Entry = Omit<CommandSpec, 'group' | 'categories' | 'complexity' | 'syntax'> & Partial<CommandSpec>;

function subcommands(list: Entry[]): CommandSpec[] {
  return list.map((entry) => ({ group: 'server', categories: [], complexity: 'O(1)', syntax: '', ...entry }));
}

const LOG_FLAGS = ['admin', 'loading', 'stale'] as const;
const LATENCY_FLAGS = ['admin', 'noscript', 'loading', 'stale'] as const;
const EVERY_NODE = { tips: ['nondeterministic_output', 'request_policy:all_nodes', 'response_policy:special'] };
const EVERY_SHARD = { tips: ['nondeterministic_output', 'request_policy:all_shards', 'response_policy:special'] };
const ALL_SUCCEED = ['request_policy:all_nodes', 'response_policy:all_succeeded'];
const ALLOCATED = 'Depends on how much memory is allocated, could be slow';

export const monitoringCommands: CommandSpec[] = [
  {
    name: 'slowlog',
    arity: -2,
    flags: [],
    categories: [],
    summary: 'The log of slow commands.',
    since: '2.2.12',
    group: 'server',
    complexity: 'Depends on subcommand.',
    syntax: '',
    handler: containerAlone,
    subcommands: [
      ...subcommands([
        {
          name: 'get',
          arity: -2,
          flags: LOG_FLAGS,
          since: '2.2.12',
          complexity: 'O(N) where N is the number of entries returned',
          syntax: '[count]',
          summary: 'Gives the latest slow commands.',
          handler: slowlogGet,
          tips: ['request_policy:all_nodes', 'nondeterministic_output'],
          history: [['4.0.0', 'Entries tell the address and name of the client.']],
        },
        {
          name: 'len',
          arity: 2,
          flags: LOG_FLAGS,
          since: '2.2.12',
          summary: 'Gives the number of entries in the slow log.',
          handler: slowlogLen,
          tips: ['request_policy:all_nodes', 'response_policy:agg_sum', 'nondeterministic_output'],
        },
        {
          name: 'reset',
          arity: 2,
          flags: LOG_FLAGS,
          since: '2.2.12',
          complexity: 'O(N) where N is the number of entries in the slowlog',
          summary: 'Empties the slow log.',
          handler: slowlogReset,
          tips: ALL_SUCCEED,
        },
      ]),
      helpCommand('server', '6.2.0'),
    ],
  },
  {
    name: 'latency',
    arity: -2,
    flags: [],
    categories: [],
    summary: 'The latency monitor and the latency histograms.',
    since: '2.8.13',
    group: 'server',
    complexity: 'Depends on subcommand.',
    syntax: '',
    handler: containerAlone,
    subcommands: [
      ...subcommands([
        {
          name: 'doctor',
          arity: 2,
          flags: LATENCY_FLAGS,
          since: '2.8.13',
          summary: 'Says in words what took long, and what may help.',
          handler: latencyDoctor,
          ...EVERY_NODE,
        },
        {
          name: 'graph',
          arity: 3,
          flags: LATENCY_FLAGS,
          since: '2.8.13',
          syntax: 'event',
          summary: 'Draws the samples of an event.',
          handler: latencyGraph,
          ...EVERY_NODE,
        },
        {
          name: 'histogram',
          arity: -2,
          flags: LATENCY_FLAGS,
          since: '7.0.0',
          complexity: 'O(N) where N is the number of commands with latency information being retrieved.',
          syntax: '[command [command ...]]',
          summary: "Gives commands' latency distributions.",
          handler: latencyHistogram,
          ...EVERY_NODE,
        },
        {
          name: 'history',
          arity: 3,
          flags: LATENCY_FLAGS,
          since: '2.8.13',
          syntax: 'event',
          summary: 'Gives the samples of an event.',
          handler: latencyHistory,
          ...EVERY_NODE,
        },
        {
          name: 'latest',
          arity: 2,
          flags: LATENCY_FLAGS,
          since: '2.8.13',
          summary: 'Gives the last sample of each event.',
          handler: latencyLatest,
          ...EVERY_NODE,
        },
        {
          name: 'reset',
          arity: -2,
          flags: LATENCY_FLAGS,
          since: '2.8.13',
          syntax: '[event [event ...]]',
          summary: 'Forgets the samples of events, all or some.',
          handler: latencyReset,
          tips: ALL_SUCCEED,
        },
      ]),
      helpCommand('server', '2.8.13'),
    ],
  },
  {
    name: 'memory',
    arity: -2,
    flags: [],
    categories: [],
    summary: 'What memory is used for.',
    since: '4.0.0',
    group: 'server',
    complexity: 'Depends on subcommand.',
    syntax: '',
    handler: containerAlone,
    subcommands: [
      ...subcommands([
        {
          name: 'doctor',
          arity: 2,
          flags: [],
          since: '4.0.0',
          summary: 'Says in words whether memory is a problem.',
          handler: memoryDoctor,
          ...EVERY_SHARD,
        },
        {
          name: 'malloc-stats',
          arity: 2,
          flags: [],
          since: '4.0.0',
          complexity: ALLOCATED,
          summary: "Gives the runtime's figures of its heap.",
          handler: memoryMallocStats,
          ...EVERY_SHARD,
        },
        {
          name: 'purge',
          arity: 2,
          flags: [],
          since: '4.0.0',
          complexity: ALLOCATED,
          summary: 'Does nothing: the garbage collector gives memory back by itself.',
          handler: memoryPurge,
          tips: ['request_policy:all_shards', 'response_policy:all_succeeded'],
        },
        {
          name: 'stats',
          arity: 2,
          flags: [],
          since: '4.0.0',
          summary: 'Gives figures of memory use.',
          handler: memoryStats,
          ...EVERY_SHARD,
        },
        {
          name: 'usage',
          arity: -3,
          flags: ['readonly'],
          since: '4.0.0',
          complexity: 'O(N) where N is the number of samples.',
          syntax: 'key [SAMPLES count]',
          summary: 'Estimates the memory that a key takes.',
          handler: memoryUsage,
          keys: [{ flags: ['RO'], begin: 2, range: { last: 0, step: 1 } }],
        },
      ]),
      helpCommand('server', '4.0.0'),
    ],
  },
  {
    name: 'monitor',
    arity: 1,
    flags: LATENCY_FLAGS,
    categories: [],
    summary: 'Shows every command that the server runs, as it comes in.',
    since: '1.0.0',
    group: 'server',
    complexity: 'undefined',
    syntax: '',
    handler: monitor,
  },
];
