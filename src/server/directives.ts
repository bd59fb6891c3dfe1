/**
 * The table of directives: everything that a configuration file, the command line and `CONFIG SET` may say.
 *
 * Redis's directives keep their names, value syntax and error texts, so that its tools and its `redis.conf` files
 * work here. Those that rule something which doesn't exist here (RDB files, replicas of a master) are accepted where
 * ignoring them is harmless, and refused with an explanation where somebody relies on what they promise.
 * `conf/gramme.conf` shows the whole table; a test holds the two together.
 */
import { z } from 'zod';
import { MAX_STRING_BYTES } from '../base/limits.ts';

/** When a directive may change: at run time, only at start, or (as Redis protects it) never by an ordinary client. */
export type Changeable = 'run' | 'start' | 'protected';

export interface Directive {
  name: string;
  aliases: readonly string[];
  /** Heading in the example file. */
  section: string;
  /** Canonical text of the default. */
  initial: string;
  changeable: Changeable;
  /** Takes several words. */
  words: boolean;
  /** Bytes: written with a unit where one fits. */
  memory: boolean;
  /** Text to canonical text; an issue's message is what the client or the operator is told. */
  schema: z.ZodType<string, string>;
  /** Joins a new value to the one before. `repeated`: the directive came earlier in the same file. */
  merge?: (was: string, now: string, repeated: boolean) => string;
  /** A value that files may carry but that changes nothing: says so in the log. */
  tolerated?: { values: readonly string[]; why: string };
  about: string;
}

// ------------------------------------------------------------------ schemas

const LLONG_MAX = 9223372036854775807n;
const INT_MAX = 2147483647n;
const INT_MIN = -2147483648n;
const UINT_MAX = 4294967295n;
const ULLONG_MAX = 18446744073709551615n;

/** A schema that is one function: it returns the canonical text, or throws the text of the refusal. */
function checked(read: (text: string) => string): z.ZodType<string, string> {
  return z.string().transform((text, context) => {
    try {
      return read(text);
    } catch (why) {
      if (typeof why !== 'string') throw why;
      context.addIssue({ code: 'custom', message: why });
      return z.NEVER;
    }
  });
}

const STRICT_INTEGER = /^(?:0|-?[1-9]\d*)$/;

function integer(min: bigint, max: bigint): z.ZodType<string, string> {
  return checked((text) => {
    const n = STRICT_INTEGER.test(text) ? BigInt(text) : null;
    if (n === null || n > LLONG_MAX || n < -LLONG_MAX - 1n) throw "argument couldn't be parsed into an integer";
    if (n < min || n > max) throw `argument must be between ${min} and ${max} inclusive`;
    return String(n);
  });
}

const UNITS: Record<string, bigint> = {
  '': 1n,
  b: 1n,
  k: 1000n,
  kb: 1024n,
  m: 1000_000n,
  mb: 1024n ** 2n,
  g: 1000_000_000n,
  gb: 1024n ** 3n,
};

/** `100mb` and the like as bytes; null when it isn't an amount of memory. `1k` is 1000 and `1kb` 1024, as in Redis. */
export function parseMemory(text: string): bigint | null {
  const m = /^(\d*)([a-zA-Z]*)$/.exec(text);
  const unit = m === null ? undefined : UNITS[m[2].toLowerCase()];
  if (m === null || unit === undefined) return null;
  const n = BigInt(m[1] === '' ? 0 : m[1]) * unit;
  return n > ULLONG_MAX ? ULLONG_MAX : n;
}

function memory(min: bigint, max: bigint): z.ZodType<string, string> {
  return checked((text) => {
    const n = parseMemory(text);
    if (n === null) throw 'argument must be a memory value';
    if (n < min || n > max) throw `argument must be between ${min} and ${max} inclusive`;
    return String(n);
  });
}

const octal = checked((text) => {
  if (!/^[0-7]+$/.test(text)) throw "argument couldn't be parsed as an octal number";
  const n = Number.parseInt(text, 8);
  if (n > 0o777) throw 'argument must be between 0 and 777 inclusive';
  return n.toString(8);
});

const yesNo = checked((text) => {
  const t = text.toLowerCase();
  if (t !== 'yes' && t !== 'no') throw "argument must be 'yes' or 'no'";
  return t;
});

function oneOf(...names: string[]): z.ZodType<string, string> {
  return checked((text) => {
    const t = text.toLowerCase();
    if (!names.includes(t)) throw `argument(s) must be one of the following: ${names.join(', ')}`;
    return t;
  });
}

function someOf(...names: string[]): z.ZodType<string, string> {
  return checked((text) => {
    const given = text.toLowerCase().split(' ');
    if (given.some((t) => !names.includes(t))) throw `argument(s) must be one of the following: ${names.join(', ')}`;
    if (given.includes('save') && given.includes('nosave')) {
      throw "shutdown options SAVE and NOSAVE can't be used simultaneously";
    }
    return names.filter((n) => given.includes(n)).join(' ');
  });
}

const text = z.string();

/** Takes this value alone; anything else is refused with the reason. */
function only(value: string, why: string, read: z.ZodType<string, string> = text): z.ZodType<string, string> {
  return read.pipe(
    checked((v) => {
      if (v !== value) throw why;
      return v;
    }),
  );
}

const tlsProtocols = checked((t) => {
  const names = t.split(/[\s,]+/).filter((name) => name !== '');
  if (!names.every((name) => /^TLSv1(\.[123])?$/i.test(name))) {
    throw 'Invalid tls-protocols: it is a list of TLSv1, TLSv1.1, TLSv1.2 and TLSv1.3';
  }
  return names.join(' ');
});

const positiveDecimal = checked((t) => {
  const n = /^\d+(\.\d+)?$/.test(t) ? Number(t) : Number.NaN;
  if (!(n > 0 && n <= 1000)) throw 'argument must be a number above 0 and at most 1000';
  return String(n);
});

const powerOfTwo = checked((t) => {
  const n = /^\d+$/.test(t) ? Number(t) : 0;
  if (n < 1 || n > 16384 || (n & (n - 1)) !== 0) throw 'argument must be a power of two between 1 and 16384';
  return String(n);
});

const savePoints = checked((t) => {
  if (t === '') return '';
  const words = t.split(' ');
  const good = words.every((w, i) => /^\d+$/.test(w) && (i % 2 === 1 || Number(w) >= 1));
  if (!good || words.length % 2 === 1) throw 'Invalid save parameters';
  return words.map(Number).join(' ');
});

const CLIENT_CLASSES = ['normal', 'slave', 'pubsub'];

const outputLimits = checked((t) => {
  if (t === '') return '';
  const words = t.split(' ');
  if (words.length % 4 !== 0) throw 'Wrong number of arguments in buffer limit configuration.';
  const out: string[] = [];
  for (let i = 0; i < words.length; i += 4) {
    const given = words[i].toLowerCase();
    const name = given === 'replica' ? 'slave' : given;
    if (!CLIENT_CLASSES.includes(name)) throw 'Invalid client class specified in buffer limit configuration.';
    const hard = parseMemory(words[i + 1]);
    const soft = parseMemory(words[i + 2]);
    if (hard === null || soft === null || !/^\d+$/.test(words[i + 3])) {
      throw 'Error in hard, soft or soft_seconds setting in buffer limit configuration.';
    }
    out.push(name, String(hard), String(soft), String(Number(words[i + 3])));
  }
  return out.join(' ');
});

/** What is given replaces its class; the others stay. */
function mergeOutputLimits(was: string, now: string): string {
  const limits = new Map<string, string>();
  for (const all of [was, now]) {
    const words = all === '' ? [] : all.split(' ');
    for (let i = 0; i < words.length; i += 4) limits.set(words[i], words.slice(i, i + 4).join(' '));
  }
  return CLIENT_CLASSES.map((c) => limits.get(c)).join(' ');
}

const EVENT_CLASSES = 'g$lshzxetd';

const keyspaceEvents = checked((t) => {
  const flags = new Set<string>();
  for (const c of t) {
    if (c === 'A') for (const each of EVENT_CLASSES) flags.add(each);
    else if (`${EVENT_CLASSES}nKEm`.includes(c)) flags.add(c);
    else throw "Invalid event class character. Use 'Ag$lshzxeKEtmdn'.";
  }
  const all = [...EVENT_CLASSES].every((c) => flags.has(c));
  const classes = all ? 'A' : [...`${EVENT_CLASSES}n`].filter((c) => flags.has(c)).join('');
  return classes + [...'KEm'].filter((c) => flags.has(c)).join('');
});

const percentiles = checked((t) => {
  if (t === '') return '';
  return t
    .split(' ')
    .map((w) => {
      if (!/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(w))
        throw 'Invalid latency-tracking-info-percentiles parameters';
      const n = Number(w);
      if (n < 0 || n > 100) throw 'latency-tracking-info-percentiles parameters should sit between [0.0,100.0]';
      return String(Number(n.toFixed(6)));
    })
    .join(' ');
});

const hz = integer(INT_MIN, INT_MAX).transform((v) => String(Math.min(500, Math.max(1, Number(v)))));

const POLICIES = [
  'volatile-lru',
  'volatile-lfu',
  'volatile-random',
  'volatile-ttl',
  'allkeys-lru',
  'allkeys-lfu',
  'allkeys-random',
  'noeviction',
];

// ------------------------------------------------------------------ the table

type Extra = Partial<Pick<Directive, 'aliases' | 'words' | 'memory' | 'merge' | 'tolerated'>>;
type Row = [
  name: string,
  initial: string,
  changeable: Changeable,
  schema: z.ZodType<string, string>,
  about: string,
  extra?: Extra,
];

const port = integer(0n, 65535n);
const count = integer(0n, INT_MAX);
const size = integer(0n, LLONG_MAX);
const bytes = memory(0n, LLONG_MAX);
const several = { words: true };
const amount = { memory: true };

const SECTIONS: Record<string, Row[]> = {
  Network: [
    [
      'bind',
      '127.0.0.1 -::1',
      'start',
      text,
      'Addresses to listen on; one with a leading "-" may be missing on this machine, and "*" is every address.',
      several,
    ],
    ['port', '6379', 'start', port, 'TCP port for clients; 0 listens on none.'],
    ['unixsocket', '', 'start', text, 'Path of a Unix socket to listen on as well; empty for none.'],
    ['unixsocketperm', '0', 'start', octal, 'Permission bits of that socket, in octal; 0 leaves what the umask gives.'],
    ['tcp-backlog', '511', 'start', count, 'Connections that the system may queue before they are accepted.'],
    ['timeout', '0', 'run', count, 'Seconds after which an idle client is disconnected; 0 for never.'],
    ['tcp-keepalive', '300', 'run', count, 'Seconds between probes that find dead peers; 0 for none.'],
    ['protected-mode', 'yes', 'run', yesNo, 'Without a password, and bound to everything, serve only this machine.'],
    [
      'maxclients',
      '10000',
      'run',
      integer(1n, UINT_MAX),
      'Clients served at the same time; more are told so and closed.',
    ],
  ],
  TLS: [
    [
      'tls-port',
      '0',
      'start',
      port,
      'TCP port for clients that speak TLS; 0 listens on none. With port 0 it is the only one.',
    ],
    [
      'tls-cert-file',
      '',
      'start',
      text,
      'Certificate that this server shows, to clients and to other nodes; a PEM file.',
    ],
    ['tls-key-file', '', 'start', text, 'Private key of that certificate; a PEM file.'],
    ['tls-key-file-pass', '', 'start', text, 'Passphrase of the key file; empty for none.'],
    [
      'tls-ca-cert-file',
      '',
      'start',
      text,
      "Certificates of the authorities that others' certificates must come from; a PEM file.",
    ],
    ['tls-ca-cert-dir', '', 'start', text, 'Directory of such PEM files, beside or instead of that one.'],
    [
      'tls-auth-clients',
      'yes',
      'start',
      oneOf('no', 'yes', 'optional'),
      'Must clients show a certificate: yes, no, or optional (one that is shown must be good).',
    ],
    [
      'tls-cluster',
      'no',
      'start',
      yesNo,
      'Whether the cluster bus runs over TLS; nodes then always show each other their certificates.',
    ],
    [
      'tls-protocols',
      '',
      'start',
      tlsProtocols,
      'Versions of TLS to speak, as in "TLSv1.2 TLSv1.3"; empty for those two.',
      several,
    ],
    ['tls-ciphers', '', 'start', text, 'Ciphers up to TLS 1.2, as OpenSSL lists them; empty for the default ones.'],
    [
      'tls-ciphersuites',
      '',
      'start',
      text,
      'Ciphersuites of TLS 1.3, as OpenSSL lists them; empty for the default ones.',
    ],
    ['tls-prefer-server-ciphers', 'no', 'start', yesNo, "Follow this server's order of ciphers and not the client's."],
  ],
  General: [
    ['databases', '16', 'start', integer(1n, 16384n), 'Databases that SELECT can choose from.'],
    [
      'loglevel',
      'notice',
      'run',
      oneOf('debug', 'verbose', 'notice', 'warning'),
      'How much is logged: debug, verbose, notice or warning.',
    ],
    ['logfile', '', 'start', text, 'File that the log goes to; empty for standard output.'],
    ['pidfile', '', 'start', text, 'File that holds the process id while the server runs; empty for none.'],
    [
      'daemonize',
      'no',
      'start',
      yesNo.pipe(only('no', 'the server stays in the foreground; let a service manager put it into the background')),
      'Always no: the server stays in the foreground, and a service manager looks after it.',
      { tolerated: { values: ['yes'], why: 'the server stays in the foreground' } },
    ],
    [
      'supervised',
      'no',
      'start',
      oneOf('upstart', 'systemd', 'auto', 'no'),
      'Accepted; the log says when the server is ready, whoever supervises it.',
    ],
    ['always-show-logo', 'no', 'start', yesNo, 'Accepted; there is no logo.'],
    ['set-proc-title', 'yes', 'start', yesNo, 'Show address and mode in the process title.'],
    [
      'proc-title-template',
      '{title} {listen-addr} {server-mode}',
      'run',
      text,
      'Accepted; the process title has a form of its own.',
    ],
    ['hz', '10', 'run', hz, 'Accepted; background work runs on timers of its own.'],
    ['dynamic-hz', 'yes', 'run', yesNo, 'Accepted; see hz.'],
    [
      'enable-debug-command',
      'no',
      'start',
      oneOf('no', 'yes', 'local'),
      'Who may use DEBUG and DYNAMO LINKS: nobody, everybody, or clients on this machine.',
    ],
    [
      'enable-protected-configs',
      'no',
      'start',
      oneOf('no', 'yes', 'local'),
      'Who may try to change protected directives.',
    ],
    ['enable-module-command', 'no', 'start', oneOf('no', 'yes', 'local'), 'Accepted; there are no modules to load.'],
  ],
  Security: [
    ['requirepass', '', 'run', text, 'Password that clients must give with AUTH or HELLO; empty for none.'],
    ['acllog-max-len', '128', 'run', size, 'Refused commands and logins that ACL LOG remembers.'],
    [
      'acl-pubsub-default',
      'resetchannels',
      'run',
      oneOf('allchannels', 'resetchannels'),
      'Channels that a new user may use.',
    ],
    [
      'aclfile',
      '',
      'start',
      only('', 'users are not kept in a file of their own'),
      'Always empty: users are not kept in a file of their own.',
    ],
  ],
  Data: [
    ['dir', '.', 'protected', text, 'Directory that holds the data files; it belongs to one server.'],
    [
      'appendonly',
      'yes',
      'run',
      yesNo.pipe(only('yes', 'every write goes to the journal; appendfsync says how soon it is on disk')),
      'Always yes: every write goes to the journal.',
      { tolerated: { values: ['no'], why: 'every write goes to the journal all the same' } },
    ],
    [
      'appendfsync',
      'everysec',
      'run',
      oneOf('everysec', 'always', 'no'),
      'What an acknowledged write may lose in a power cut: nothing (always), a second (everysec), or what the system had not written yet (no).',
    ],
    [
      'save',
      '',
      'run',
      savePoints,
      'Accepted; there are no snapshots to schedule, for everything is on disk already.',
      { words: true, merge: (was, now, repeated) => (repeated && now !== '' && was !== '' ? `${was} ${now}` : now) },
    ],
    ['stop-writes-on-bgsave-error', 'yes', 'run', yesNo, 'Accepted; writes stop whenever the disk refuses them.'],
    [
      'expire-settle',
      '5',
      'run',
      size,
      'Seconds after its deadline that an expired key, hidden at once, is removed for good; alone it goes at once.',
    ],
    [
      'max-siblings',
      '100',
      'run',
      integer(1n, 1000000n),
      'Siblings of one key that clients may make by writing without a context.',
    ],
  ],
  Memory: [
    [
      'maxmemory',
      '0',
      'run',
      memory(0n, ULLONG_MAX),
      'Memory for keys held resident; colder ones stay on disk alone. 0 takes a share of the heap.',
      amount,
    ],
    [
      'maxmemory-policy',
      'noeviction',
      'run',
      oneOf(...POLICIES).pipe(
        only('noeviction', 'only noeviction: memory is a cache here, and nothing is evicted from disk'),
      ),
      'Always noeviction: memory is a cache of what is on disk, and nothing is evicted from there.',
    ],
    ['maxmemory-samples', '5', 'run', integer(1n, 64n), 'Accepted; cold keys are found by their age.'],
    ['maxmemory-eviction-tenacity', '10', 'run', integer(0n, 100n), 'Accepted; see maxmemory-samples.'],
    ['lfu-log-factor', '10', 'run', count, 'Accepted; there is no LFU policy.'],
    ['lfu-decay-time', '1', 'run', count, 'Accepted; there is no LFU policy.'],
    ['lazyfree-lazy-eviction', 'no', 'run', yesNo, 'Accepted; memory is freed by the garbage collector.'],
    ['lazyfree-lazy-expire', 'no', 'run', yesNo, 'Accepted; memory is freed by the garbage collector.'],
    ['lazyfree-lazy-server-del', 'no', 'run', yesNo, 'Accepted; memory is freed by the garbage collector.'],
    ['lazyfree-lazy-user-del', 'no', 'run', yesNo, 'Accepted; memory is freed by the garbage collector.'],
    ['lazyfree-lazy-user-flush', 'no', 'run', yesNo, 'Accepted; memory is freed by the garbage collector.'],
    ['activerehashing', 'yes', 'run', yesNo, 'Accepted; the runtime grows its own hash tables.'],
    [
      'activedefrag',
      'no',
      'run',
      yesNo.pipe(only('no', 'the garbage collector moves objects together by itself')),
      'Always no: the garbage collector moves objects together by itself.',
    ],
    ['active-expire-effort', '1', 'run', integer(1n, 10n), 'Accepted; expired keys are found by an index.'],
  ],
  Clients: [
    [
      'proto-max-bulk-len',
      '536870912',
      'run',
      memory(1024n * 1024n, LLONG_MAX),
      `Longest argument, and longest string that SETRANGE and the like may make (never more than ${MAX_STRING_BYTES} bytes).`,
      amount,
    ],
    [
      'client-query-buffer-limit',
      '1073741824',
      'run',
      memory(1024n * 1024n, LLONG_MAX),
      'Unexecuted input of one client above which it is closed.',
      amount,
    ],
    [
      'client-output-buffer-limit',
      'normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60',
      'run',
      outputLimits,
      'Unsent output above which a client is closed: for each class a hard limit, a soft limit, and the seconds that the soft one may be passed.',
      { words: true, merge: mergeOutputLimits },
    ],
    [
      'notify-keyspace-events',
      '',
      'run',
      keyspaceEvents,
      'Classes of changes to keys that are published to __keyspace@db__ and __keyevent@db__ channels.',
    ],
    ['tracking-table-max-keys', '1000000', 'run', size, 'Keys remembered for client-side caching.'],
  ],
  Scripts: [
    [
      'busy-reply-threshold',
      '5000',
      'run',
      size,
      'Milliseconds that a script may run before other clients are told that the server is busy.',
      { aliases: ['lua-time-limit'] },
    ],
  ],
  Observation: [
    [
      'slowlog-log-slower-than',
      '10000',
      'run',
      integer(-1n, LLONG_MAX),
      'Microseconds above which a command is kept in the slow log; -1 for none, 0 for all.',
    ],
    ['slowlog-max-len', '128', 'run', size, 'Commands that the slow log keeps.'],
    [
      'latency-monitor-threshold',
      '0',
      'run',
      size,
      'Milliseconds above which an event is kept by the latency monitor; 0 turns it off.',
    ],
    [
      'latency-tracking',
      'yes',
      'run',
      yesNo,
      "Keep each command's latency distribution for LATENCY HISTOGRAM and INFO latencystats.",
    ],
    [
      'latency-tracking-info-percentiles',
      '50 99 99.9',
      'run',
      percentiles,
      'Percentiles that INFO latencystats shows.',
      several,
    ],
    ['crash-log-enabled', 'yes', 'run', yesNo, 'Accepted; a crash is always logged.'],
    [
      'sla-ms',
      '300',
      'run',
      integer(1n, INT_MAX),
      'Milliseconds within which a request should be answered; INFO says how many were.',
    ],
    [
      'metrics-port',
      '0',
      'start',
      port,
      'HTTP port: the ring for a browser at /, and /metrics for a Prometheus; 0 for none.',
    ],
    [
      'metrics-bind',
      '127.0.0.1',
      'start',
      text,
      'Address of the metrics port. Its pages have no password, and change nothing.',
    ],
  ],
  Cluster: [
    ['cluster-port', '0', 'start', port, 'Port of the cluster bus; 0 for port + 10000.'],
    [
      'cluster-host',
      '',
      'start',
      text,
      'Name of the machine that this node counts as; replicas of a key go to distinct ones. Empty: a node is a machine of its own.',
    ],
    [
      'cluster-zone',
      '',
      'start',
      text,
      'Zone that this node is in; replicas are spread over zones where there are several.',
    ],
    [
      'cluster-weight',
      '1',
      'start',
      positiveDecimal,
      'Share of the ring that this node takes, relative to the others.',
    ],
    ['cluster-seeds', '', 'start', text, 'Bus addresses (host:port) of nodes to find the cluster by.', several],
    [
      'cluster-auto-join',
      'no',
      'start',
      yesNo,
      'Become a full member at once; otherwise gramme plan and gramme commit decide.',
    ],
    [
      'cluster-secret',
      '',
      'start',
      text,
      'Secret that all nodes of the cluster share; it authenticates the bus and signs contexts.',
    ],
    ['cluster-n', '3', 'start', integer(1n, 16n), 'Nodes that hold each key.'],
    ['cluster-r', '2', 'start', integer(1n, 16n), 'Nodes that answer a read.'],
    ['cluster-w', '2', 'start', integer(1n, 16n), 'Nodes that hold a write before it is acknowledged.'],
    [
      'cluster-partitions',
      '1024',
      'start',
      powerOfTwo,
      'Equal parts that the ring is cut into; a power of two, fixed for the life of the cluster.',
    ],
    [
      'write-min-nodes',
      '1',
      'run',
      integer(1n, 16n),
      'Fewest nodes that must hold a write when others are down; fewer is an error.',
    ],
    [
      'read-min-nodes',
      '1',
      'run',
      integer(1n, 16n),
      'Fewest nodes that must answer a read when others are down; fewer is an error.',
    ],
    [
      'durable-writes',
      '0',
      'run',
      integer(0n, 16n),
      'Other nodes that must have a write on disk before it is acknowledged, whatever their appendfsync says; as many of them as are well.',
    ],
    [
      'tombstone-grace',
      '864000',
      'run',
      size,
      'Seconds that a member may be away before the others expel it, so that traces of deletes can go; 0 for ever.',
    ],
    [
      'cluster-node-timeout',
      '15000',
      'run',
      size,
      'Milliseconds of silence after which a node is shown as failed; suspicion comes sooner.',
    ],
    [
      'background-latency-ms',
      '150',
      'run',
      integer(0n, INT_MAX),
      "Milliseconds above which clients' latency (99th percentile) slows hints, transfers and exchanges; 0 for never.",
    ],
    [
      'cluster-enabled',
      'no',
      'start',
      yesNo,
      'Whether clients are told that this is a Redis Cluster, so that they route by slot themselves; every node serves every key in any case.',
    ],
    [
      'cluster-announce-ip',
      '',
      'run',
      text,
      'Address that clients and nodes are given for this node; empty for the one it listens on.',
    ],
    ['cluster-announce-port', '0', 'run', port, 'Client port that is announced; 0 for the real one.'],
    ['cluster-announce-bus-port', '0', 'run', port, 'Bus port that is announced; 0 for the real one.'],
    [
      'cluster-require-full-coverage',
      'yes',
      'run',
      yesNo,
      'Accepted; each key is served as long as one of its nodes can be reached.',
    ],
    [
      'replicaof',
      '',
      'start',
      only('', 'there is no master to be a replica of: a Gramme node joins others with cluster-seeds'),
      'Always empty: nodes join one another with cluster-seeds.',
      { words: true, aliases: ['slaveof'] },
    ],
    [
      'min-replicas-to-write',
      '0',
      'run',
      only('0', 'there are no replicas of a master; write-min-nodes says how many nodes must hold a write', count),
      'Always 0: write-min-nodes says how many nodes must hold a write.',
      { aliases: ['min-slaves-to-write'] },
    ],
    [
      'min-replicas-max-lag',
      '10',
      'run',
      count,
      'Accepted; see min-replicas-to-write.',
      { aliases: ['min-slaves-max-lag'] },
    ],
  ],
  'Encodings: accepted so that tools can set them; values have forms of their own here': [
    [
      'hash-max-listpack-entries',
      '512',
      'run',
      size,
      'Accepted; largest small hash, in fields.',
      { aliases: ['hash-max-ziplist-entries'] },
    ],
    [
      'hash-max-listpack-value',
      '64',
      'run',
      bytes,
      'Accepted; longest value in a small hash.',
      { aliases: ['hash-max-ziplist-value'], memory: true },
    ],
    [
      'list-max-listpack-size',
      '-2',
      'run',
      integer(INT_MIN, INT_MAX),
      'Accepted; size of one piece of a list.',
      { aliases: ['list-max-ziplist-size'] },
    ],
    ['list-compress-depth', '0', 'run', count, 'Accepted; pieces at the ends of a list that stay plain.'],
    ['set-max-intset-entries', '512', 'run', size, 'Accepted; largest small set of integers.'],
    ['set-max-listpack-entries', '128', 'run', size, 'Accepted; largest small set.'],
    ['set-max-listpack-value', '64', 'run', bytes, 'Accepted; longest member of a small set.', amount],
    [
      'zset-max-listpack-entries',
      '128',
      'run',
      size,
      'Accepted; largest small sorted set.',
      { aliases: ['zset-max-ziplist-entries'] },
    ],
    [
      'zset-max-listpack-value',
      '64',
      'run',
      bytes,
      'Accepted; longest member of a small sorted set.',
      { aliases: ['zset-max-ziplist-value'], memory: true },
    ],
    ['hll-sparse-max-bytes', '3000', 'run', bytes, 'Accepted; largest sparse HyperLogLog.', amount],
    ['stream-node-max-bytes', '4096', 'run', bytes, 'Accepted; bytes in one piece of a stream.', amount],
    [
      'stream-node-max-entries',
      '100',
      'run',
      size,
      'Entries in one piece of a stream, which approximate trimming rounds to.',
    ],
    [
      'sanitize-dump-payload',
      'no',
      'run',
      oneOf('no', 'yes', 'clients'),
      'Accepted; what RESTORE is given is always checked.',
    ],
  ],
  'Redis files and replicas: accepted so that a redis.conf works; they rule nothing here': [
    ['dbfilename', 'dump.rdb', 'protected', text, 'Accepted; name of a snapshot.'],
    ['rdbcompression', 'yes', 'run', yesNo, 'Accepted.'],
    ['rdbchecksum', 'yes', 'start', yesNo, 'Accepted.'],
    ['rdb-del-sync-files', 'no', 'run', yesNo, 'Accepted.'],
    ['rdb-save-incremental-fsync', 'yes', 'run', yesNo, 'Accepted.'],
    ['appendfilename', 'appendonly.aof', 'start', text, 'Accepted.'],
    ['appenddirname', 'appendonlydir', 'start', text, 'Accepted.'],
    ['no-appendfsync-on-rewrite', 'no', 'run', yesNo, 'Accepted; a fold never holds up an fsync.'],
    ['auto-aof-rewrite-percentage', '100', 'run', count, 'Accepted; the journal is folded into rows all the time.'],
    ['auto-aof-rewrite-min-size', '67108864', 'run', bytes, 'Accepted; see auto-aof-rewrite-percentage.', amount],
    ['aof-load-truncated', 'yes', 'run', yesNo, 'Accepted.'],
    ['aof-use-rdb-preamble', 'yes', 'run', yesNo, 'Accepted.'],
    ['aof-timestamp-enabled', 'no', 'run', yesNo, 'Accepted; every event carries its time.'],
    ['aof-rewrite-incremental-fsync', 'yes', 'run', yesNo, 'Accepted.'],
    ['repl-backlog-size', '1048576', 'run', memory(1n, LLONG_MAX), 'Accepted.', amount],
    ['repl-backlog-ttl', '3600', 'run', size, 'Accepted.'],
    ['repl-timeout', '60', 'run', integer(1n, INT_MAX), 'Accepted.'],
    ['repl-diskless-sync', 'yes', 'run', yesNo, 'Accepted.'],
    ['repl-diskless-sync-delay', '5', 'run', count, 'Accepted.'],
    ['repl-diskless-sync-max-replicas', '0', 'run', count, 'Accepted.'],
    ['repl-diskless-load', 'disabled', 'run', oneOf('disabled', 'on-empty-db', 'swapdb'), 'Accepted.'],
    ['repl-disable-tcp-nodelay', 'no', 'run', yesNo, 'Accepted.'],
    [
      'repl-ping-replica-period',
      '10',
      'run',
      integer(1n, INT_MAX),
      'Accepted.',
      { aliases: ['repl-ping-slave-period'] },
    ],
    ['replica-priority', '100', 'run', count, 'Accepted; there is nobody to promote.', { aliases: ['slave-priority'] }],
    ['replica-read-only', 'yes', 'run', yesNo, 'Accepted; every node takes writes.', { aliases: ['slave-read-only'] }],
    [
      'replica-serve-stale-data',
      'yes',
      'run',
      yesNo,
      'Accepted; read-min-nodes says how many nodes must answer.',
      { aliases: ['slave-serve-stale-data'] },
    ],
    ['replica-lazy-flush', 'no', 'run', yesNo, 'Accepted.', { aliases: ['slave-lazy-flush'] }],
    ['masterauth', '', 'run', text, 'Accepted; cluster-secret is what nodes share.'],
    ['masteruser', '', 'run', text, 'Accepted; see masterauth.'],
    [
      'io-threads',
      '1',
      'start',
      integer(1n, 128n),
      'Accepted; commands run on one thread and the disk is served by others.',
    ],
    ['io-threads-do-reads', 'no', 'start', yesNo, 'Accepted; see io-threads.'],
    ['disable-thp', 'yes', 'start', yesNo, 'Accepted.'],
    ['jemalloc-bg-thread', 'yes', 'run', yesNo, "Accepted; memory is the garbage collector's business."],
    [
      'oom-score-adj',
      'no',
      'run',
      oneOf('no', 'yes', 'relative', 'absolute'),
      'Accepted; a service manager sets the OOM score.',
    ],
    ['oom-score-adj-values', '0 200 800', 'run', text, 'Accepted; see oom-score-adj.', several],
    [
      'syslog-enabled',
      'no',
      'start',
      yesNo.pipe(only('no', 'the log goes to standard output or to logfile; a service manager brings it to syslog')),
      'Always no: the log goes to standard output or to logfile.',
    ],
    ['shutdown-timeout', '10', 'run', count, 'Accepted; there are no replicas to wait for.'],
    [
      'shutdown-on-sigint',
      'default',
      'run',
      someOf('default', 'save', 'nosave', 'now', 'force'),
      'Accepted; a stop is always clean.',
      several,
    ],
    [
      'shutdown-on-sigterm',
      'default',
      'run',
      someOf('default', 'save', 'nosave', 'now', 'force'),
      'Accepted; a stop is always clean.',
      several,
    ],
  ],
};

export const DIRECTIVES: readonly Directive[] = Object.entries(SECTIONS).flatMap(([section, rows]) =>
  rows.map(([name, initial, changeable, schema, about, extra]) => ({
    name,
    section,
    initial,
    changeable,
    schema,
    about,
    aliases: [],
    words: false,
    memory: false,
    ...extra,
  })),
);

/** Directives of Redis that go without a word: they were retired, or only repeat what is always so. */
export const RETIRED: readonly string[] = [
  'list-max-ziplist-entries',
  'list-max-ziplist-value',
  'lua-replicate-commands',
];

/** Directives of Redis whose promise can't be kept: refused with the reason. */
export const UNSUPPORTED: Readonly<Record<string, string>> = {
  loadmodule: 'there are no modules',
  'rename-command': 'commands keep their names; deny them to users instead',
  user: 'users can not be declared in this file; use requirepass',
  sentinel: 'this is not a Sentinel: nodes find each other with cluster-seeds',
};
