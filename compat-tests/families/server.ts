// What tools ask of a server: COMMAND, CONFIG, INFO, SLOWLOG, LATENCY, MEMORY, MONITOR, and how it refuses
// what it does not know.

import {
  anyInteger,
  anyPositive,
  anyText,
  each,
  elements,
  fieldsKept,
  fieldsPresent,
  hasMembers,
  helpText,
  inOrder,
  type Normaliser,
  replaced,
  shape,
  sorted,
  typeOnly,
} from '../lib/normalise.ts';
import { array, blob, isAggregate, type Reply, textOf } from '../lib/reply.ts';
import { type Family, on, quiet, receive, sequence, step } from '../lib/sequence.ts';

const STRING_COMMANDS = (
  'get set setnx setex psetex getset getex getdel mget mset msetnx append strlen setrange getrange substr lcs ' +
  'incr decr incrby decrby incrbyfloat setbit getbit bitcount bitpos bitop bitfield bitfield_ro'
).split(' ');
const KEY_COMMANDS = (
  'del unlink exists touch type expire pexpire expireat pexpireat ttl pttl expiretime pexpiretime persist rename ' +
  'renamenx copy move swapdb randomkey keys scan object dump restore dbsize flushdb flushall select'
).split(' ');
const SERVER_COMMANDS = (
  'ping echo hello auth quit reset client command config info time debug slowlog latency memory lolwut wait ' +
  'monitor role lastsave'
).split(' ');
const COMMANDS = [...STRING_COMMANDS, ...KEY_COMMANDS, ...SERVER_COMMANDS];

function itemsOf(reply: Reply | undefined): Reply[] {
  return reply && isAggregate(reply) ? (reply.items ?? []) : [];
}

/** One entry of COMMAND INFO with everything that is a set in order: flags, categories, tips, subcommands. */
const commandEntry: Normaliser = (reply) => {
  if (!isAggregate(reply) || !reply.items) return reply;
  const [name, arity, flags, first, last, every, categories, tips, specs, subcommands] = reply.items;
  if (!subcommands) return reply;
  const children = itemsOf(subcommands)
    .map(commandEntry)
    .sort((a, b) => (textOf(itemsOf(a)[0]) < textOf(itemsOf(b)[0]) ? -1 : 1));
  return {
    ...reply,
    items: [
      name,
      arity,
      sorted(flags),
      first,
      last,
      every,
      sorted(categories),
      sorted(tips),
      each(keySpec)(specs),
      { type: '*', items: children },
    ],
  };
};

// The flags of a key specification are the second value of its map.
const keySpec: Normaliser = (reply) => {
  if (!isAggregate(reply) || !reply.items) return reply;
  const items = reply.items.map((item, i, all) =>
    i % 2 === 1 && textOf(all[i - 1]) === 'flags' ? sorted(item) : item,
  );
  return { ...reply, items };
};

const docsShape: Normaliser = (reply) => {
  if (!isAggregate(reply) || !reply.items) return reply;
  const items = reply.items.map((item, i) => {
    if (i % 2 === 0 || !isAggregate(item)) return item;
    const fields = new Set(
      itemsOf(item)
        .filter((_, at) => at % 2 === 0)
        .map(textOf),
    );
    return array(
      ['summary', 'since', 'group'].map((name) =>
        blob(`${item.type} ${name}: ${fields.has(name) ? 'present' : 'absent'}`),
      ),
    );
  });
  return { ...reply, items };
};

const namesOf: Normaliser = (reply) =>
  isAggregate(reply) && reply.items
    ? hasMembers(COMMANDS)({ ...reply, items: reply.items.map((entry) => itemsOf(entry)[0] ?? entry) })
    : reply;

const monitored = replaced(/^\d+\.\d+ \[(\d+) [^\]]+\]/, 'time [$1 address]');

const slowEntry = elements(anyInteger, anyInteger, anyInteger, undefined, anyText, undefined);

const SECTIONS: Record<string, string[]> = {
  server: (
    'redis_version redis_git_sha1 redis_git_dirty redis_build_id redis_mode os arch_bits multiplexing_api process_id ' +
    'run_id tcp_port server_time_usec uptime_in_seconds uptime_in_days hz configured_hz lru_clock executable config_file'
  ).split(' '),
  clients: (
    'connected_clients cluster_connections maxclients client_recent_max_input_buffer client_recent_max_output_buffer ' +
    'blocked_clients tracking_clients clients_in_timeout_table'
  ).split(' '),
  memory: (
    'used_memory used_memory_human used_memory_rss used_memory_rss_human used_memory_peak used_memory_peak_human ' +
    'used_memory_peak_perc used_memory_dataset total_system_memory total_system_memory_human used_memory_lua maxmemory ' +
    'maxmemory_human maxmemory_policy mem_fragmentation_ratio mem_allocator lazyfree_pending_objects'
  ).split(' '),
  persistence: (
    'loading rdb_changes_since_last_save rdb_bgsave_in_progress rdb_last_save_time rdb_last_bgsave_status ' +
    'rdb_last_bgsave_time_sec aof_enabled aof_rewrite_in_progress aof_last_bgrewrite_status aof_last_write_status'
  ).split(' '),
  stats: (
    'total_connections_received total_commands_processed instantaneous_ops_per_sec total_net_input_bytes ' +
    'total_net_output_bytes instantaneous_input_kbps instantaneous_output_kbps rejected_connections sync_full ' +
    'sync_partial_ok sync_partial_err expired_keys evicted_keys keyspace_hits keyspace_misses pubsub_channels ' +
    'pubsub_patterns latest_fork_usec total_error_replies'
  ).split(' '),
  replication: (
    'role connected_slaves master_failover_state master_replid master_replid2 master_repl_offset second_repl_offset ' +
    'repl_backlog_active repl_backlog_size'
  ).split(' '),
  cpu: 'used_cpu_sys used_cpu_user used_cpu_sys_children used_cpu_user_children'.split(' '),
  modules: [],
  errorstats: [],
  cluster: ['cluster_enabled'],
  keyspace: [],
};

const HEADINGS = [
  '# Server',
  '# Clients',
  '# Memory',
  '# Persistence',
  '# Stats',
  '# Replication',
  '# CPU',
  '# Modules',
  '# Commandstats',
  '# Errorstats',
  '# Latencystats',
  '# Cluster',
  '# Keyspace',
];

const LONG = 'x'.repeat(300);

export const server: Family = {
  name: 'server',
  sequences: [
    sequence('unknown commands', [
      'NOSUCH',
      'NoSuch a b',
      'nosuch "" "a b"',
      `NOSUCH ${LONG}`,
      `NOSUCH ${'y'.repeat(60)} ${'z'.repeat(60)} third`,
      `NOSUCH ${'y'.repeat(60)} ${'z'.repeat(70)} third fourth`,
      `${LONG} a b`,
      'NOSUCH "a\\r\\nb" "c\\x00d" "\\xff\'"',
      '"NO\\r\\nSUCH" a',
      '"NO SUCH"',
      ['NOSUCH', ...Array.from({ length: 100 }, (_, i) => `argument-${i}`)],
      '"" a',
      'GETT k',
      'config|get maxmemory',
      'CLIENT|ID',
    ]),
    sequence('unknown subcommands', [
      ...['CLIENT', 'CONFIG', 'COMMAND', 'OBJECT', 'MEMORY', 'SLOWLOG', 'LATENCY'].flatMap((name) => [
        `${name} NoSuch`,
        `${name} nosuch a b c`,
        `${name} ""`,
        `${name} "a\\r\\nb"`,
        `${name} ${LONG}`,
      ]),
      'COMMAND DOCSX',
    ]),
    sequence('wrong arity', [
      ...COMMANDS.filter(
        (name) =>
          ![
            'quit',
            'reset',
            'monitor',
            'wait',
            'debug',
            'flushall',
            'flushdb',
            'info',
            'hello',
            'lolwut',
            'ping',
            'command',
            'time',
            'role',
            'dbsize',
            'randomkey',
            'lastsave',
          ].includes(name),
      ),
      'CONFIG GET',
      'CONFIG SET',
      'CONFIG SET a',
      'CONFIG RESETSTAT x',
      'CONFIG REWRITE x',
      'CLIENT GETNAME x',
      'OBJECT ENCODING',
      'MEMORY USAGE',
      'SLOWLOG LEN x',
      'SLOWLOG RESET x',
      'COMMAND COUNT x',
      'COMMAND GETKEYS',
      'COMMAND LIST x',
      'LATENCY HISTORY',
      'LATENCY GRAPH',
      'TIME x',
      'ROLE x',
      'LASTSAVE x',
      'WAIT 1',
      'MONITOR x y',
    ]),
    sequence(
      'COMMAND INFO',
      COMMANDS.map((name) => step(`COMMAND INFO ${name}`, each(commandEntry))),
    ),
    sequence('COMMAND', [
      step('COMMAND COUNT', anyPositive),
      step('COMMAND', namesOf),
      step('COMMAND INFO', namesOf),
      step('COMMAND INFO get nosuch SET', each(commandEntry)),
      step('COMMAND INFO config|get', each(commandEntry)),
      step('COMMAND INFO client|id', each(commandEntry)),
      'COMMAND INFO config|nosuch',
      'COMMAND INFO get|x',
      'COMMAND INFO ""',
      step('COMMAND DOCS get', docsShape),
      step('COMMAND DOCS set GET', docsShape),
      step('COMMAND DOCS config|get', docsShape),
      'COMMAND DOCS nosuch',
      step('COMMAND DOCS', typeOnly),
      step('COMMAND LIST', hasMembers(COMMANDS)),
      step('COMMAND LIST FILTERBY PATTERN get*', hasMembers(['get', 'getset', 'getex', 'getdel', 'getrange', 'set'])),
      step('COMMAND LIST filterby pattern GET', sorted),
      step('COMMAND LIST FILTERBY PATTERN config|*', hasMembers(['config|get', 'config|set', 'config|resetstat'])),
      step('COMMAND LIST FILTERBY PATTERN xyz', sorted),
      step('COMMAND LIST FILTERBY ACLCAT string', hasMembers([...STRING_COMMANDS, 'del'])),
      step('COMMAND LIST FILTERBY ACLCAT keyspace', hasMembers([...KEY_COMMANDS, 'get'])),
      'COMMAND LIST FILTERBY ACLCAT nosuch',
      'COMMAND LIST FILTERBY MODULE nosuch',
      'COMMAND LIST FILTERBY',
      'COMMAND LIST FILTERBY PATTERN',
      'COMMAND LIST FILTERBY BOGUS x',
      'COMMAND LIST BOGUS',
      step('COMMAND HELP', helpText),
      'COMMAND BOGUS',
    ]),
    sequence('COMMAND GETKEYS', [
      'COMMAND GETKEYS GET k',
      'COMMAND GETKEYS SET k v EX 10',
      'COMMAND GETKEYS MSET a 1 b 2 c 3',
      'COMMAND GETKEYS MGET a b c',
      'COMMAND GETKEYS DEL a b',
      'COMMAND GETKEYS BITOP AND d a b',
      'COMMAND GETKEYS COPY a b',
      'COMMAND GETKEYS RENAME a b',
      'COMMAND GETKEYS OBJECT ENCODING k',
      'COMMAND GETKEYS MEMORY USAGE k',
      'COMMAND GETKEYS LCS a b',
      'COMMAND GETKEYS PING',
      'COMMAND GETKEYS SCAN 0',
      'COMMAND GETKEYS CONFIG GET x',
      'COMMAND GETKEYS NOSUCH a',
      'COMMAND GETKEYS GET',
      'COMMAND GETKEYS GET a b',
      'COMMAND GETKEYS MSET a',
      'COMMAND GETKEYS OBJECT BOGUS k',
      'COMMAND GETKEYSANDFLAGS SET k v',
      'COMMAND GETKEYSANDFLAGS SET k v GET',
      'COMMAND GETKEYSANDFLAGS GET k',
      'COMMAND GETKEYSANDFLAGS COPY a b',
      'COMMAND GETKEYSANDFLAGS BITFIELD k GET u8 0',
      'COMMAND GETKEYSANDFLAGS BITFIELD k SET u8 0 1',
      'COMMAND GETKEYSANDFLAGS PING',
      'COMMAND GETKEYSANDFLAGS NOSUCH',
    ]),
    sequence('CONFIG GET', [
      ...(
        'appendonly save databases maxmemory maxmemory-policy maxmemory-samples timeout tcp-keepalive hz ' +
        'slowlog-log-slower-than slowlog-max-len latency-monitor-threshold appendfsync notify-keyspace-events ' +
        'proto-max-bulk-len maxclients lazyfree-lazy-user-del lua-time-limit cluster-enabled requirepass ' +
        'list-max-listpack-size hash-max-listpack-entries hash-max-listpack-value set-max-intset-entries ' +
        'zset-max-listpack-entries'
      )
        .split(' ')
        .map((name) => `CONFIG GET ${name}`),
      step('CONFIG GET port', elements(undefined, anyPositive)),
      step('CONFIG GET dir', elements(undefined, anyText)),
      step('CONFIG GET bind', elements(undefined, anyText)),
      'CONFIG GET MAXMEMORY',
      'CONFIG GET nosuch',
      'CONFIG GET ""',
      step('CONFIG GET maxmemory*', hasMembers(['maxmemory', 'maxmemory-policy', 'maxmemory-samples', 'timeout'])),
      'CONFIG GET timeout nosuch',
      step('CONFIG GET timeout databases', hasMembers(['timeout', '0', 'databases', '16'])),
      'CONFIG GET timeout timeout',
      step(
        'CONFIG GET *',
        hasMembers(['maxmemory', 'save', 'appendonly', 'databases', 'timeout', 'port', 'dir', 'bind']),
      ),
      'CONFIG GET t?meout',
      'CONFIG GET [td]imeout',
      step('CONFIG HELP', helpText),
    ]),
    sequence('CONFIG SET', [
      'CONFIG SET maxmemory 100mb',
      'CONFIG GET maxmemory',
      'CONFIG SET maxmemory 1gb',
      'CONFIG GET maxmemory',
      'CONFIG SET maxmemory 5k',
      'CONFIG SET maxmemory x',
      'CONFIG SET maxmemory -1',
      'CONFIG SET maxmemory 1.5gb',
      'CONFIG SET maxmemory 0',
      'CONFIG GET maxmemory',
      'CONFIG SET maxmemory-policy allkeys-lru',
      'CONFIG GET maxmemory-policy',
      'CONFIG SET maxmemory-policy BOGUS',
      'CONFIG SET maxmemory-policy noeviction',
      'CONFIG SET timeout 100',
      'CONFIG GET timeout',
      'CONFIG SET timeout -1',
      'CONFIG SET timeout x',
      'CONFIG SET timeout ""',
      'CONFIG SET timeout 99999999999',
      'CONFIG SET TIMEOUT 0',
      'CONFIG GET timeout',
      'CONFIG SET nosuch 1',
      'CONFIG SET databases 32',
      'CONFIG SET port x',
      'CONFIG SET slowlog-max-len 64 timeout 5',
      'CONFIG GET slowlog-max-len',
      'CONFIG SET timeout 1 nosuch 2',
      'CONFIG SET timeout 1 timeout 2',
      'CONFIG SET timeout 1 maxmemory x',
      'CONFIG GET timeout',
      'CONFIG SET timeout 1 maxmemory',
      'CONFIG SET slowlog-max-len 128 timeout 0',
      'CONFIG SET appendonly maybe',
      'CONFIG SET lazyfree-lazy-user-del yes',
      'CONFIG GET lazyfree-lazy-user-del',
      'CONFIG SET lazyfree-lazy-user-del 1',
      'CONFIG SET lazyfree-lazy-user-del no',
      'CONFIG SET hz 20',
      'CONFIG GET hz',
      'CONFIG SET hz 10',
      'CONFIG SET notify-keyspace-events KEA',
      'CONFIG GET notify-keyspace-events',
      'CONFIG SET notify-keyspace-events bogus!',
      'CONFIG SET notify-keyspace-events ""',
      'CONFIG GET notify-keyspace-events',
      'CONFIG SET save "900 1"',
      'CONFIG GET save',
      'CONFIG SET save ""',
      'CONFIG SET save "x y"',
      'CONFIG GET save',
      'CONFIG RESETSTAT',
    ]),
    sequence('INFO sections', [
      ...Object.entries(SECTIONS).map(([section, fields]) =>
        step(
          `INFO ${section}`,
          fieldsPresent([`# ${section === 'cpu' ? 'CPU' : section[0].toUpperCase() + section.slice(1)}`, ...fields]),
        ),
      ),
      'INFO nosuch',
      'INFO ""',
      step('INFO', fieldsPresent(HEADINGS)),
      step('INFO default', fieldsPresent(HEADINGS)),
      step('INFO all', fieldsPresent(HEADINGS)),
      step('INFO everything', fieldsPresent(HEADINGS)),
      step('INFO SERVER clients', fieldsPresent(HEADINGS)),
      step('INFO server nosuch', fieldsPresent(HEADINGS)),
      step('INFO server', fieldsKept(['redis_mode', 'arch_bits'])),
      step('INFO replication', fieldsKept(['role', 'connected_slaves'])),
      step('INFO cluster', fieldsKept(['cluster_enabled'])),
    ]),
    sequence('INFO counts', [
      step('INFO keyspace', replaced(/avg_ttl=\d+/, 'avg_ttl=…')),
      'MSET a 1 b 2',
      'EXPIRE a 100',
      step('INFO keyspace', replaced(/avg_ttl=\d+/, 'avg_ttl=…')),
      'SELECT 3',
      'SET c 3',
      step('INFO keyspace', replaced(/avg_ttl=\d+/, 'avg_ttl=…')),
      'SELECT 0',
      'CONFIG RESETSTAT',
      'GET a',
      'GET missing',
      'MGET a b missing missing2',
      'EXISTS a',
      'TTL missing',
      'STRLEN a',
      step('INFO stats', fieldsKept(['keyspace_hits', 'keyspace_misses', 'total_error_replies'])),
      'NOSUCH',
      'GET',
      'INCR a b',
      'SET s text',
      'INCR s',
      step('INFO stats', fieldsKept(['total_error_replies'])),
      step('INFO errorstats', fieldsKept(['errorstat_ERR'])),
      step('INFO commandstats', fieldsPresent(['cmdstat_get', 'cmdstat_mget', 'cmdstat_incr', 'cmdstat_lcs'])),
      'CONFIG RESETSTAT',
      'GET a',
      'GET a b',
      'INCR s',
      'CONFIG GET nosuch',
      step(
        'INFO commandstats',
        inOrder(
          fieldsKept(['cmdstat_get', 'cmdstat_incr', 'cmdstat_config|get']),
          replaced(/usec(_per_call)?=[\d.]+/g, 'usec$1=…'),
        ),
      ),
    ]),
    sequence('TIME and LASTSAVE', [step('TIME', shape), step('LASTSAVE', anyPositive)]),
    sequence('DEBUG', ['DEBUG', 'DEBUG SLEEP 0', 'DEBUG SLEEP', 'DEBUG NOSUCH', 'DEBUG HELP']),
    sequence('SLOWLOG', [
      'SLOWLOG RESET',
      'SLOWLOG LEN',
      'SLOWLOG GET',
      'CONFIG SET slowlog-log-slower-than 0',
      'SLOWLOG RESET',
      'CLIENT SETNAME compat',
      'PING hello',
      'SLOWLOG LEN',
      step('SLOWLOG GET 2', each(slowEntry)),
      ['SET', 'k', 'v'.repeat(200)],
      step('SLOWLOG GET 1', each(slowEntry)),
      ['MSET', ...Array.from({ length: 40 }, (_, i) => `w${i}`)],
      step('SLOWLOG GET 1', each(slowEntry)),
      'PING "\\x00\\xff"',
      step('SLOWLOG GET 1', each(slowEntry)),
      'SLOWLOG GET 0',
      step('SLOWLOG GET -1', each(slowEntry)),
      'SLOWLOG GET -2',
      'SLOWLOG GET x',
      'SLOWLOG GET 1 2',
      'GET',
      'NOSUCH',
      step('SLOWLOG GET 3', each(slowEntry)),
      'CONFIG SET slowlog-max-len 2',
      'SLOWLOG LEN',
      'CONFIG SET slowlog-max-len 128',
      'CONFIG SET slowlog-log-slower-than -1',
      'SLOWLOG RESET',
      'PING',
      'SLOWLOG LEN',
      'CONFIG SET slowlog-log-slower-than 10000',
      step('SLOWLOG HELP', helpText),
    ]),
    sequence('LATENCY', [
      'LATENCY LATEST',
      'LATENCY HISTORY command',
      'LATENCY HISTORY nosuch',
      'LATENCY RESET',
      'LATENCY RESET command nosuch',
      'LATENCY GRAPH nosuch',
      step('LATENCY DOCTOR', typeOnly),
      step('LATENCY HISTOGRAM', typeOnly),
      'LATENCY HISTOGRAM nosuch',
      'LATENCY LATEST x',
      step('LATENCY HELP', helpText),
    ]),
    sequence('MEMORY', [
      'SET k v',
      'SET n 1',
      ['SET', 'big', 'x'.repeat(10_000)],
      'MEMORY USAGE missing',
      step('MEMORY USAGE k', anyPositive),
      step('MEMORY USAGE n', anyPositive),
      step('MEMORY USAGE big SAMPLES 5', anyPositive),
      step('MEMORY USAGE big samples 0', anyPositive),
      'MEMORY USAGE k SAMPLES x',
      'MEMORY USAGE k SAMPLES -1',
      'MEMORY USAGE k SAMPLES',
      'MEMORY USAGE k BOGUS 1',
      'MEMORY USAGE k BOGUS',
      step('MEMORY DOCTOR', typeOnly),
      step('MEMORY STATS', typeOnly),
      step('MEMORY MALLOC-STATS', typeOnly),
      'MEMORY PURGE',
      'MEMORY PURGE x',
      step('MEMORY HELP', helpText),
    ]),
    sequence('LOLWUT', [
      step('LOLWUT', typeOnly),
      step('LOLWUT VERSION 5', typeOnly),
      step('LOLWUT VERSION 5 10 1 1', typeOnly),
      'LOLWUT VERSION x',
    ]),
    sequence('WAIT', [
      'WAIT 0 10',
      'WAIT 0 0',
      'SET k v',
      'WAIT 0 10',
      'WAIT 1 20',
      'WAIT x 10',
      'WAIT 0 x',
      'WAIT 0 -1',
      'WAIT -1 10',
      'WAIT',
    ]),
    sequence('ROLE', [step('ROLE', elements(undefined, anyInteger, undefined))]),
    sequence('MONITOR', [
      'PING',
      on('b', 'MONITOR'),
      'SET k "a b"',
      on('b', receive(1, monitored)),
      'SELECT 3',
      'GET "\\x00\\xff\\"\\n"',
      on('b', receive(2, monitored)),
      'NOSUCH a',
      'GET',
      'CONFIG GET timeout',
      'PING',
      on('b', receive(1, monitored)),
      on('b', quiet()),
    ]),
    sequence('no cluster, no modules', [
      'CLUSTER',
      'CLUSTER INFO',
      'CLUSTER SLOTS',
      'CLUSTER SHARDS',
      'CLUSTER NODES',
      'CLUSTER LINKS',
      'CLUSTER MEET 127.0.0.1 7000',
      'CLUSTER MEET',
      'CLUSTER ADDSLOTS 1',
      'CLUSTER COUNTKEYSINSLOT x',
      'CLUSTER NOSUCH',
      'READONLY',
      'READWRITE',
      'ASKING',
      'MODULE LIST',
      'ACL WHOAMI',
      'REPLICAOF NO ONE',
    ]),
  ],
};
