/**
 * What a node tells a Prometheus. Everything is read when it is asked for; names are ours, with Prometheus' endings
 * (`_total` for what only grows, base units).
 */
import { LARGE_CONTEXT_INTERVALS } from '../base/limits.ts';
import { memoryUse } from '../commands/info.ts';
import type { Metrics } from '../ports/metrics.ts';
import { MOST_SIBLINGS } from '../store/keyspace.ts';
import type { GrammeServer } from './gramme.ts';

const PERCENTILES: readonly [name: string, percent: number][] = [
  ['p50', 50],
  ['p99', 99],
  ['p999', 99.9],
];

/** Registers this server's numbers. Once a process. */
export function registerMetrics(server: GrammeServer, metrics: Metrics): void {
  const { stats, keys, store, sla, router } = server;
  const gauge = (name: string, help: string, read: () => number) => metrics.gauge(`gramme_${name}`, help, read);
  const counter = (name: string, help: string, read: () => number) =>
    metrics.counter(`gramme_${name}_total`, help, read);

  gauge('connected_clients', 'Connections of clients.', () => server.clients.size);
  counter('commands', 'Commands that clients have sent, and that other nodes have sent on.', () => stats.commands);
  counter('writes', 'Events: writes of keys, those that came from other nodes included.', () => keys.stats.events);
  gauge('keys', 'Keys that this node holds.', () => keys.names.reduce((n, db) => n + db.keys, 0));
  gauge('resident_bytes', 'Bytes of keys and values in memory, by our reckoning.', () => keys.bytes);
  gauge('memory_used_bytes', 'Heap in use, and the memory of packed keys beside it.', () => memoryUse(server).used);
  gauge('journal_backlog_bytes', 'Journal that is not yet rows.', () => store.journal.backlogBytes);
  gauge('disk_refuses', '1 while the disk takes no writes.', () => (store.journal.failure === null ? 0 : 1));
  counter('journal_fsyncs', 'Forced writes of the journal.', () => store.journal.syncs);
  counter('folded_rows', 'Rows that the fold has written.', () => store.fold.rows);
  counter('keys_loaded', 'Keys that were brought in from disk.', () => store.residency.loads);
  counter('sla_requests', 'Requests by which the service level is reckoned.', () => sla.requests);
  gauge('sla_attained_ratio', 'Share of requests answered within sla-ms.', () => sla.attained() / 100);
  for (const [name, percent] of PERCENTILES)
    gauge(
      `sla_${name}_seconds`,
      `Time within which ${percent} % of the last minute's requests were answered.`,
      () => sla.percentile(percent) / 1000,
    );
  for (let n = 2; n <= MOST_SIBLINGS; n++)
    counter(
      `reads_with_${n}${n === MOST_SIBLINGS ? '_or_more' : ''}_siblings`,
      `Reads that found ${n}${n === MOST_SIBLINGS ? ' or more' : ''} siblings.`,
      () => keys.stats.siblings[n],
    );
  counter(
    'changes_with_large_contexts',
    `Changes that left a key with a context of more than ${LARGE_CONTEXT_INTERVALS} intervals.`,
    () => keys.stats.largeContexts,
  );
  if (router === null) return;

  const { cluster } = router;
  const { peers, ring, repair, hints, replicator, reads, bus, governor, lends } = cluster;
  const seen = (state: string) => [...peers.byId.values()].filter((p) => p.state === state).length;
  gauge('members', 'Nodes that own partitions.', () => ring.members.length);
  gauge('peers_alive', 'Other nodes that this one takes to be well.', () => seen('alive'));
  gauge('peers_suspect', 'Other nodes that have not answered in time.', () => seen('suspect'));
  gauge('peers_down', 'Other nodes that are out of reach.', () => seen('down'));
  gauge('partitions_moving', 'Partitions whose new owners do not have everything yet.', () => ring.moving().length);
  gauge(
    'partitions_stray',
    'Partitions of which this node holds keys that it does not own.',
    () => repair.strayPartitions,
  );
  gauge('hints_held', 'Keys that wait for an owner who was away.', () => hints.count);
  counter('hints_delivered', 'Hinted keys that their owners have on disk.', () => hints.stats.delivered);
  counter('commands_forwarded', 'Commands sent to the node that coordinates their key.', () => router.stats.forwarded);
  counter(
    'commands_answered_by_writes',
    'Forwarded commands whose reply came with their write.',
    () => router.stats.rode,
  );
  gauge(
    'commands_under_way',
    "Clients' commands that other nodes have yet to confirm or answer.",
    () => router.intake.underWay,
  );
  counter('inputs_held', "Times that a client's input had to wait for what was under way.", () => router.intake.held);
  counter('commands_retried', 'Forwarded commands that were sent again.', () => router.stats.retried);
  counter('commands_run_twice', 'Runs of commands that were undone, since another counts.', () => router.stats.twice);
  counter('commands_freshened', 'Commands that read from R replicas before they ran.', () => router.stats.freshened);
  counter('commands_borrowing', 'Commands that ran with keys of other coordinators.', () => router.stats.borrowers);
  counter(
    'commands_waited_for_lend',
    'Commands that waited for a key that was lent.',
    () => router.stats.waitedForLend,
  );
  counter('lends_given', 'Lends given to other nodes.', () => lends.stats.given);
  counter('lends_taken', 'Lends taken from other nodes.', () => lends.stats.taken);
  counter('lends_refused', 'Lends that were asked for and not given.', () => lends.stats.refused);
  counter('lends_recalled', 'Lends taken back for an older command.', () => lends.stats.recalled);
  counter('lends_expired', 'Lends whose time was over before they were returned.', () => lends.stats.expired);
  counter('acks_with_news', 'Acknowledgements that brought something unseen.', () => replicator.stats.unclean);
  counter('writes_degraded', 'Writes with fewer copies than W.', () => replicator.stats.degraded);
  counter('writes_failed', 'Writes with fewer copies than they must have.', () => replicator.stats.failed);
  counter('read_repairs', 'Keys sent to a replica that was behind.', () => reads.stats.repairs);
  counter('exchange_differences', 'Keys that an exchange found to differ.', () => repair.stats.differences);
  gauge('background_share', 'Share of time that background work may take.', () => governor.share);
  counter('exchange_bytes', 'Bytes that exchanges took.', () => repair.stats.bytes);
  counter('bus_bytes_in', 'Bytes from other nodes.', () => bus.stats.bytesIn);
  counter('bus_bytes_out', 'Bytes to other nodes.', () => bus.stats.bytesOut);
  counter('bus_frames_in', 'Frames from other nodes.', () => bus.stats.framesIn);
  counter('bus_frames_out', 'Frames to other nodes.', () => bus.stats.framesOut);
  counter('bus_writes', 'Writes to connections with other nodes: frames go out together.', () => bus.stats.writes);
}
