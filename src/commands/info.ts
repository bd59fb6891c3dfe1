/**
 * INFO: Redis's sections and fields, which monitoring tools read by name, and `# Dynamo`, which tells what is ours.
 *
 * Fields of things that don't exist here (forks, replicas, defragmentation) are there with the value that means
 * "nothing of that", since tools look for them.
 */
import { SLOTS } from '../ring/slots.ts';
import type { Server } from '../server/server.ts';
import { REDIS_VERSION, VERSION } from '../server/version.ts';
import { MOST_SIBLINGS } from '../store/keyspace.ts';
import { clusterEnabled, clusterSize, knownNodes } from './cluster.ts';
import type { CommandContext, CommandSpec } from './command.ts';

type Fields = [name: string, value: string | number][];

/** Bytes as people read them: 1.50M. */
export function humanBytes(n: number): string {
  if (n < 1024) return `${Math.floor(n)}B`;
  let unit = -1;
  do {
    n /= 1024;
    unit++;
  } while (n >= 1024 && unit < 4);
  return `${n.toFixed(2)}${'KMGTP'[unit]}`;
}

/** Memory as INFO and MEMORY STATS reckon it. */
export function memoryUse(server: Server): { used: number; rss: number; peak: number; keys: number } {
  const { stats, keys } = server;
  // packed keys are in memory that the heap knows nothing of
  const used = server.host.heapUsedBytes() + keys.packed.slab.chunkBytes;
  if (used > stats.peakMemory) stats.peakMemory = used;
  return { used, rss: server.host.residentBytes(), peak: stats.peakMemory, keys: keys.bytes };
}

function listenPort(server: Server): number {
  return server.config.num('port');
}

function serverSection({ server, now }: CommandContext): Fields {
  const { host, config } = server;
  const uptime = Math.max(0, Math.floor((now - server.startedMs) / 1000));
  const bits = host.arch.includes('64') ? 64 : 32;
  return [
    ['redis_version', REDIS_VERSION],
    ['redis_git_sha1', '00000000'],
    ['redis_git_dirty', 0],
    ['redis_build_id', '0'],
    ['redis_mode', clusterEnabled(server) ? 'cluster' : 'standalone'],
    ['gramme_version', VERSION],
    ['os', host.os],
    ['arch_bits', bits],
    ['monotonic_clock', 'POSIX clock_gettime'],
    ['multiplexing_api', 'libuv'],
    ['atomicvar_api', 'none'],
    ['gcc_version', '0.0.0'],
    ['runtime', host.runtime],
    ['process_id', host.pid],
    ['process_supervised', config.get('supervised')],
    ['run_id', server.runId],
    ['node_id', server.nodeId],
    ['tcp_port', listenPort(server)],
    ['server_time_usec', Math.floor(now * 1000)],
    ['uptime_in_seconds', uptime],
    ['uptime_in_days', Math.floor(uptime / 86400)],
    ['hz', config.get('hz')],
    ['configured_hz', config.get('hz')],
    ['lru_clock', Math.floor(now / 1000) & 0xffffff],
    ['executable', host.executable],
    ['config_file', config.file],
    ['io_threads_active', 0],
  ];
}

function clientsSection({ server }: CommandContext): Fields {
  let input = 0;
  let output = 0;
  let blocked = 0;
  for (const client of server.clients.values()) {
    input = Math.max(input, client.pendingEnd - client.pendingStart);
    output = Math.max(output, client.connection.pending());
    if (client.waiting) blocked++;
  }
  return [
    ['connected_clients', server.clients.size],
    ['cluster_connections', server.router === null ? 0 : [...server.router.cluster.bus.links()].length],
    ['maxclients', server.config.num('maxclients')],
    ['client_recent_max_input_buffer', input],
    ['client_recent_max_output_buffer', output],
    ['blocked_clients', blocked],
    ['tracking_clients', 0],
    ['clients_in_timeout_table', 0],
  ];
}

function memorySection({ server }: CommandContext): Fields {
  const { used, rss, peak, keys } = memoryUse(server);
  const { host, config } = server;
  const total = host.totalMemoryBytes();
  const limit = config.num('maxmemory');
  const percent = (part: number, whole: number) => `${(whole > 0 ? (part / whole) * 100 : 0).toFixed(2)}%`;
  const overhead = Math.max(0, used - keys);
  return [
    ['used_memory', used],
    ['used_memory_human', humanBytes(used)],
    ['used_memory_rss', rss],
    ['used_memory_rss_human', humanBytes(rss)],
    ['used_memory_peak', peak],
    ['used_memory_peak_human', humanBytes(peak)],
    ['used_memory_peak_perc', percent(used, peak)],
    ['used_memory_overhead', overhead],
    ['used_memory_startup', 0],
    ['used_memory_dataset', keys],
    ['used_memory_dataset_perc', percent(keys, used)],
    ['allocator_allocated', used],
    ['allocator_active', used],
    ['allocator_resident', rss],
    ['total_system_memory', total],
    ['total_system_memory_human', humanBytes(total)],
    ['used_memory_lua', 0],
    ['used_memory_vm_eval', 0],
    ['used_memory_lua_human', '0B'],
    ['used_memory_scripts_eval', 0],
    ['number_of_cached_scripts', 0],
    ['number_of_functions', 0],
    ['number_of_libraries', 0],
    ['used_memory_vm_functions', 0],
    ['used_memory_vm_total', 0],
    ['used_memory_vm_total_human', '0B'],
    ['used_memory_functions', 0],
    ['used_memory_scripts', 0],
    ['used_memory_scripts_human', '0B'],
    ['maxmemory', config.get('maxmemory')],
    ['maxmemory_human', humanBytes(limit)],
    ['maxmemory_policy', config.get('maxmemory-policy')],
    ['allocator_frag_ratio', '1.00'],
    ['allocator_frag_bytes', 0],
    ['allocator_rss_ratio', '1.00'],
    ['allocator_rss_bytes', 0],
    ['rss_overhead_ratio', '1.00'],
    ['rss_overhead_bytes', 0],
    ['mem_fragmentation_ratio', (used > 0 ? rss / used : 0).toFixed(2)],
    ['mem_fragmentation_bytes', Math.max(0, rss - used)],
    ['mem_not_counted_for_evict', 0],
    ['mem_replication_backlog', 0],
    ['mem_total_replication_buffers', 0],
    ['mem_clients_slaves', 0],
    ['mem_clients_normal', 0],
    ['mem_cluster_links', 0],
    ['mem_aof_buffer', 0],
    ['mem_allocator', 'v8'],
    ['mem_heap_limit', host.heapLimitBytes()],
    ['active_defrag_running', 0],
    ['lazyfree_pending_objects', 0],
    ['lazyfreed_objects', 0],
  ];
}

function persistenceSection({ server, now }: CommandContext): Fields {
  const { journal, fold } = server.store;
  return [
    ['loading', 0],
    ['async_loading', 0],
    ['current_cow_peak', 0],
    ['current_cow_size', 0],
    ['current_cow_size_age', 0],
    ['current_fork_perc', '0.00'],
    ['current_save_keys_processed', 0],
    ['current_save_keys_total', 0],
    ['rdb_changes_since_last_save', 0],
    ['rdb_bgsave_in_progress', 0],
    ['rdb_last_save_time', Math.floor(now / 1000)],
    ['rdb_last_bgsave_status', 'ok'],
    ['rdb_last_bgsave_time_sec', -1],
    ['rdb_current_bgsave_time_sec', -1],
    ['rdb_saves', 0],
    ['rdb_last_cow_size', 0],
    ['rdb_last_load_keys_expired', 0],
    ['rdb_last_load_keys_loaded', 0],
    ['aof_enabled', 1],
    ['aof_rewrite_in_progress', fold.running ? 1 : 0],
    ['aof_rewrite_scheduled', 0],
    ['aof_last_rewrite_time_sec', Math.floor(fold.lastMs / 1000)],
    ['aof_current_rewrite_time_sec', -1],
    ['aof_last_bgrewrite_status', fold.failure === null ? 'ok' : 'err'],
    ['aof_rewrites', 0],
    ['aof_rewrites_consecutive_failures', 0],
    ['aof_last_write_status', journal.failure === null ? 'ok' : 'err'],
    ['aof_last_cow_size', 0],
    ['module_fork_in_progress', 0],
    ['module_fork_last_cow_size', 0],
    ['aof_current_size', journal.backlogBytes],
    ['aof_base_size', 0],
    ['aof_pending_rewrite', 0],
    ['aof_buffer_length', journal.w.pos],
    ['aof_pending_bio_fsync', 0],
    ['aof_delayed_fsync', 0],
  ];
}

function statsSection({ server }: CommandContext): Fields {
  const { stats, keys } = server;
  return [
    ['total_connections_received', stats.connectionsReceived],
    ['total_commands_processed', stats.commands],
    ['instantaneous_ops_per_sec', stats.operationsPerSecond()],
    ['total_net_input_bytes', stats.netIn],
    ['total_net_output_bytes', stats.netOut],
    ['total_net_repl_input_bytes', 0],
    ['total_net_repl_output_bytes', 0],
    ['instantaneous_input_kbps', stats.inputKbps().toFixed(2)],
    ['instantaneous_output_kbps', stats.outputKbps().toFixed(2)],
    ['instantaneous_input_repl_kbps', '0.00'],
    ['instantaneous_output_repl_kbps', '0.00'],
    ['rejected_connections', stats.connectionsRejected],
    ['sync_full', 0],
    ['sync_partial_ok', 0],
    ['sync_partial_err', 0],
    ['expired_keys', keys.stats.expired],
    ['expired_stale_perc', '0.00'],
    ['expired_time_cap_reached_count', 0],
    ['expire_cycle_cpu_milliseconds', 0],
    ['evicted_keys', 0],
    ['evicted_clients', 0],
    ['total_eviction_exceeded_time', 0],
    ['current_eviction_exceeded_time', 0],
    ['keyspace_hits', keys.stats.hits],
    ['keyspace_misses', keys.stats.misses],
    ['pubsub_channels', 0],
    ['pubsub_patterns', 0],
    ['pubsubshard_channels', 0],
    ['latest_fork_usec', 0],
    ['total_forks', 0],
    ['migrate_cached_sockets', 0],
    ['slave_expires_tracked_keys', 0],
    ['active_defrag_hits', 0],
    ['active_defrag_misses', 0],
    ['active_defrag_key_hits', 0],
    ['active_defrag_key_misses', 0],
    ['total_active_defrag_time', 0],
    ['current_active_defrag_time', 0],
    ['tracking_total_keys', 0],
    ['tracking_total_items', 0],
    ['tracking_total_prefixes', 0],
    ['unexpected_error_replies', 0],
    ['total_error_replies', stats.totalErrorReplies],
    ['dump_payload_sanitizations', 0],
    ['total_reads_processed', stats.readsProcessed],
    ['total_writes_processed', stats.writesProcessed],
    ['io_threaded_reads_processed', 0],
    ['io_threaded_writes_processed', 0],
    ['reply_buffer_shrinks', 0],
    ['reply_buffer_expands', 0],
  ];
}

/** Tools read the replication section of everything that speaks Redis: a master that nobody follows. */
function replicationSection({ server }: CommandContext): Fields {
  return [
    ['role', 'master'],
    ['connected_slaves', 0],
    ['master_failover_state', 'no-failover'],
    ['master_replid', server.runId],
    ['master_replid2', '0'.repeat(40)],
    ['master_repl_offset', 0],
    ['second_repl_offset', -1],
    ['repl_backlog_active', 0],
    ['repl_backlog_size', server.config.get('repl-backlog-size')],
    ['repl_backlog_first_byte_offset', 0],
    ['repl_backlog_histlen', 0],
  ];
}

function cpuSection({ server }: CommandContext): Fields {
  const { user, system } = server.host.cpu();
  return [
    ['used_cpu_sys', system.toFixed(6)],
    ['used_cpu_user', user.toFixed(6)],
    ['used_cpu_sys_children', '0.000000'],
    ['used_cpu_user_children', '0.000000'],
    ['used_cpu_sys_main_thread', system.toFixed(6)],
    ['used_cpu_user_main_thread', user.toFixed(6)],
  ];
}

function commandstatsSection({ server }: CommandContext): Fields {
  const fields: Fields = [];
  for (const { stat } of server.table.all) {
    if (stat.calls === 0 && stat.rejected === 0 && stat.failed === 0) continue;
    const usec = Math.round(stat.totalUsec());
    const each = (stat.calls > 0 ? usec / stat.calls : 0).toFixed(2);
    fields.push([
      `cmdstat_${stat.name}`,
      `calls=${stat.calls},usec=${usec},usec_per_call=${each},rejected_calls=${stat.rejected},failed_calls=${stat.failed}`,
    ]);
  }
  return fields;
}

function errorstatsSection({ server }: CommandContext): Fields {
  return [...server.stats.errors].map(([code, n]) => [`errorstat_${code}`, `count=${n}`]);
}

function latencystatsSection({ server }: CommandContext): Fields {
  const percentiles = server.config.list('latency-tracking-info-percentiles');
  const fields: Fields = [];
  for (const { stat } of server.table.all) {
    if (stat.histogram === null) continue;
    const values = percentiles.map((p) => `p${p}=${stat.percentile(Number(p)).toFixed(3)}`);
    fields.push([`latency_percentiles_usec_${stat.name}`, values.join(',')]);
  }
  return fields;
}

/** Redis has the first field alone. */
function clusterSection({ server }: CommandContext): Fields {
  const fields: Fields = [['cluster_enabled', clusterEnabled(server) ? 1 : 0]];
  if (server.router === null) return fields;
  const { bus, peers, self } = server.router.cluster;
  const others = knownNodes(server.router.cluster).filter((id) => id !== self);
  const inState = (state: string) => others.filter((id) => (peers.byId.get(id)?.state ?? 'down') === state).length;
  fields.push(
    ['cluster_known_nodes', others.length + 1],
    ['cluster_size', clusterSize(server.router.cluster)],
    ['peers_alive', inState('alive')],
    ['peers_suspect', inState('suspect')],
    ['peers_down', inState('down')],
    ['bus_links', [...bus.links()].length],
    ['bus_bytes_in', bus.stats.bytesIn],
    ['bus_bytes_out', bus.stats.bytesOut],
    ['bus_frames_in', bus.stats.framesIn],
    ['bus_frames_out', bus.stats.framesOut],
    ['bus_queue_full', bus.stats.full],
  );
  return fields;
}

function keyspaceSection({ server }: CommandContext): Fields {
  server.keys.needsAll();
  const fields: Fields = [];
  server.keys.names.forEach((db, i) => {
    if (db.keys > 0) fields.push([`db${i}`, `keys=${db.keys},expires=${db.expires},avg_ttl=0`]);
  });
  return fields;
}

/** What only a node with peers has. */
function clusterFields({ router, nodeId, keys }: Server): Fields {
  if (router === null) return [];
  const { ring, repair, trees, replicator, reads, hints, receiver, states, governor, lends } = router.cluster;
  let homes = 0;
  let coordinated = 0;
  let tenured = 0;
  for (let p = 0; p < ring.partitions; p++) {
    if (ring.homes(p).includes(nodeId)) homes++;
    if (!router.cluster.routes.coordinates(p)) continue;
    coordinated++;
    if (repair.tenure[p] === 1) tenured++;
  }
  const moving = ring.moving();
  return [
    ['layout_version', ring.name.version],
    ['member', ring.isMember(nodeId) ? 1 : 0],
    ['partitions_held', homes],
    ['partitions_coordinated', coordinated],
    ['partitions_tenured', tenured],
    ['partitions_moving', moving.length],
    ['partitions_to_fetch', moving.filter((p) => ring.gaining(p).includes(nodeId)).length],
    ['partitions_fetched', repair.stats.transferred],
    ['partitions_stray', repair.strayPartitions],
    ['trees_ready', `${trees.readyCount}/${keys.partitions}`],
    ['commands_local', router.stats.local],
    ['commands_as_replica', router.stats.replicaReads],
    ['commands_forwarded', router.stats.forwarded],
    ['commands_served_for_others', router.stats.served],
    ['commands_retried', router.stats.retried],
    ['commands_answered_by_writes', router.stats.rode],
    ['commands_under_way', router.intake.underWay],
    ['inputs_held', router.intake.held],
    ['commands_freshened', router.stats.freshened],
    ['commands_borrowing', router.stats.borrowers],
    ['commands_waited_for_lend', router.stats.waitedForLend],
    ['lends_given', lends.stats.given],
    ['lends_taken', lends.stats.taken],
    ['lends_refused', lends.stats.refused],
    ['lends_recalled', lends.stats.recalled],
    ['lends_expired', lends.stats.expired],
    ['lends_late', lends.stats.late],
    ['commands_run_twice', router.stats.twice],
    ['voids_waiting', router.cluster.voids.outstanding],
    ['writes_replicated', replicator.stats.writes],
    ['writes_degraded', replicator.stats.degraded],
    ['writes_failed', replicator.stats.failed],
    ['writes_taken', receiver.stats.writes],
    ['reads_compared', replicator.stats.compares],
    ['quorum_reads', reads.stats.reads],
    ['quorum_reads_hedged', reads.stats.hedged],
    ['quorum_reads_failed', reads.stats.failed],
    ['hints_added', hints.stats.added],
    ['states_sent', states.stats.sent],
    ['states_received', states.stats.received],
    ['exchange_rounds', repair.stats.rounds],
    ['exchanges', repair.stats.exchanges],
    ['exchange_differences', repair.stats.differences],
    ['exchange_bytes', repair.stats.bytes],
    ['keys_damaged_elsewhere', repair.stats.damaged],
    ['strays_handed_over', repair.stats.strays],
    ['background_share', governor.share.toFixed(3)],
    ['background_rested_ms', Math.round(governor.stats.restedMs)],
  ];
}

function dynamoSection({ server }: CommandContext): Fields {
  const { store, keys, config, router } = server;
  const cluster = router === null || router.cluster.ring.layout === null ? null : router.cluster;
  const fields: Fields = [];
  for (let n = 1; n <= MOST_SIBLINGS; n++) {
    fields.push([
      `reads_with_${n}${n === MOST_SIBLINGS ? '_or_more' : ''}_sibling${n === 1 ? '' : 's'}`,
      keys.stats.siblings[n],
    ]);
  }
  fields.push(
    ['members', cluster === null ? 1 : cluster.ring.members.length],
    ['partitions', keys.partitions],
    ['slots', SLOTS],
    ['replicas_n', config.num('cluster-n')],
    ['events', keys.stats.events],
    ['changes_with_large_contexts', keys.stats.largeContexts],
    ['acks_with_news', cluster?.replicator.stats.unclean ?? 0],
    ['writes_undone', router?.stats.undone ?? 0],
    ['reruns', router?.stats.reruns ?? 0],
    ['read_repairs', cluster?.reads.stats.repairs ?? 0],
    ['hints_held', cluster?.hints.count ?? 0],
    ['hints_delivered', cluster?.hints.stats.delivered ?? 0],
    ['keys_exchanged', cluster?.repair.stats.keys ?? 0],
    ...clusterFields(server),
    ['journal_policy', store.journal.policy],
    ['journal_backlog_bytes', store.journal.backlogBytes],
    ['journal_batches', store.journal.committed],
    ['journal_fsyncs', store.journal.syncs],
    ['folded_rows', store.fold.rows],
    ['fold_last_ms', Math.round(store.fold.lastMs)],
    ['resident_bytes', keys.bytes],
    ['resident_limit_bytes', store.residency.limit],
    ['keys_loaded', store.residency.loads],
    ['keys_unloaded', store.residency.evictions],
    ['keys_damaged', store.residency.damaged],
    ['warming_up', store.residency.warming ? 1 : 0],
    ['integrity_check', store.integrity ?? 'running'],
    ['replayed_events', store.replayed.events],
    ['sla_ms', config.num('sla-ms')],
    ['sla_requests', server.sla.requests],
    ['sla_attained', server.sla.attained().toFixed(3)],
    ['sla_p50_ms', server.sla.percentile(50).toFixed(3)],
    ['sla_p99_ms', server.sla.percentile(99).toFixed(3)],
    ['sla_p999_ms', server.sla.percentile(99.9).toFixed(3)],
  );
  return fields;
}

interface Section {
  title: string;
  /** Shown when no section is named. */
  usual: boolean;
  fields: (c: CommandContext) => Fields;
}

/** In the order in which they are printed. */
const SECTIONS: Record<string, Section> = {
  server: { title: 'Server', usual: true, fields: serverSection },
  clients: { title: 'Clients', usual: true, fields: clientsSection },
  memory: { title: 'Memory', usual: true, fields: memorySection },
  persistence: { title: 'Persistence', usual: true, fields: persistenceSection },
  stats: { title: 'Stats', usual: true, fields: statsSection },
  replication: { title: 'Replication', usual: true, fields: replicationSection },
  cpu: { title: 'CPU', usual: true, fields: cpuSection },
  modules: { title: 'Modules', usual: true, fields: () => [] },
  commandstats: { title: 'Commandstats', usual: false, fields: commandstatsSection },
  errorstats: { title: 'Errorstats', usual: true, fields: errorstatsSection },
  latencystats: { title: 'Latencystats', usual: false, fields: latencystatsSection },
  cluster: { title: 'Cluster', usual: true, fields: clusterSection },
  keyspace: { title: 'Keyspace', usual: true, fields: keyspaceSection },
  dynamo: { title: 'Dynamo', usual: true, fields: dynamoSection },
};

/** The text of INFO for these section names; none for the usual sections. */
export function infoText(c: CommandContext, names: readonly string[]): string {
  const wanted = new Set<string>();
  for (const given of names.length === 0 ? ['default'] : names) {
    const name = given.toLowerCase();
    const everything = name === 'all' || name === 'everything';
    for (const [id, section] of Object.entries(SECTIONS)) {
      if (everything || id === name || (name === 'default' && section.usual)) wanted.add(id);
    }
  }
  const texts: string[] = [];
  for (const [id, section] of Object.entries(SECTIONS)) {
    if (!wanted.has(id)) continue;
    let text = `# ${section.title}\r\n`;
    for (const [name, value] of section.fields(c)) text += `${name}:${value}\r\n`;
    texts.push(text);
  }
  return texts.join('\r\n');
}

function info(c: CommandContext): void {
  c.out.verbatim(infoText(c, c.argv.strings(1)));
}

export const infoCommands: CommandSpec[] = [
  {
    name: 'info',
    arity: -1,
    flags: ['loading', 'stale'],
    categories: ['dangerous'],
    summary: 'Tells how the server is and what it has done, in sections.',
    since: '1.0.0',
    group: 'server',
    complexity: 'O(1)',
    syntax: '[section [section ...]]',
    tips: ['nondeterministic_output', 'request_policy:all_shards', 'response_policy:special'],
    history: [['7.0.0', 'Takes several sections.']],
    handler: info,
  },
];
