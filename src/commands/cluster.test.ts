import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ByteReader, ByteWriter } from '../base/bytes.ts';
import type { Cluster } from '../cluster/cluster.ts';
import { decodeHolding, encodeHolding, type Holding } from '../cluster/operator.ts';
import { SLOTS } from '../ring/slots.ts';
import { clusterCommands, slotRanges } from './cluster.ts';

/** A cluster of 8 partitions with these homes, in which some nodes are not well. */
function cluster(homes: string[][], ill: string[] = [], self = 'a'): Cluster & { peers: { epoch: number } } {
  const isHealthy = (id: string) => id === self || !ill.includes(id);
  const fake = {
    self,
    ring: { partitions: homes.length, epoch: 1, homes: (p: number) => homes[p] },
    peers: { epoch: 1, isHealthy },
    routes: {
      of: (p: number) => {
        const first = homes[p].find(isHealthy);
        return { nobody: first === undefined, coordinator: first === self ? null : { id: first } };
      },
    },
  };
  return fake as unknown as Cluster & { peers: { epoch: number } };
}

const AB = ['a', 'b', 'c'];
const BC = ['b', 'c', 'a'];

test('neighbouring partitions of the same nodes are one range, whatever the order of the replicas', () => {
  const ranges = slotRanges(cluster([AB, ['a', 'c', 'b'], BC, BC, AB, AB, AB, ['c', 'a', 'b']]));
  assert.deepEqual(ranges, [
    { start: 0, end: 4095, nodes: ['a', 'b', 'c'] },
    { start: 4096, end: 8191, nodes: ['b', 'a', 'c'] },
    { start: 8192, end: 14335, nodes: ['a', 'b', 'c'] },
    { start: 14336, end: 16383, nodes: ['c', 'a', 'b'] },
  ]);
});

test('a node that is not well coordinates nothing and is no replica', () => {
  const ranges = slotRanges(cluster([AB, BC, ['c', 'b', 'a'], BC], ['b']));
  assert.deepEqual(ranges, [
    { start: 0, end: 4095, nodes: ['a', 'c'] },
    { start: 4096, end: SLOTS - 1, nodes: ['c', 'a'] },
  ]);
});

test('slots that nobody serves are left out', () => {
  const ranges = slotRanges(cluster([['b'], ['a'], ['b'], ['a']], ['b']));
  assert.deepEqual(ranges, [
    { start: 4096, end: 8191, nodes: ['a'] },
    { start: 12288, end: 16383, nodes: ['a'] },
  ]);
});

test('the view is worked out anew when an opinion has changed, and only then', () => {
  const c = cluster([AB, BC]);
  const first = slotRanges(c);
  assert.equal(slotRanges(c), first);
  c.peers.epoch++;
  assert.notEqual(slotRanges(c), first);
  assert.deepEqual(slotRanges(c), first);
});

test('one node alone serves everything', () => {
  assert.deepEqual(slotRanges(cluster([['a'], ['a'], ['a'], ['a']])), [{ start: 0, end: SLOTS - 1, nodes: ['a'] }]);
});

test('CLUSTER knows what Redis 7 knows', () => {
  const names = clusterCommands[0].subcommands?.map((s) => s.name) ?? [];
  const redis =
    'addslots addslotsrange bumpepoch count-failure-reports countkeysinslot delslots delslotsrange failover flushslots ' +
    'forget getkeysinslot help info keyslot links meet myid nodes replicas replicate reset saveconfig set-config-epoch ' +
    'setslot shards slaves slots';
  for (const name of redis.split(' ')) assert.ok(names.includes(name), name);
});

test('what a node holds of a key comes through the bus as it is', () => {
  const holding: Holding = {
    context: '0011223344556677:(1,2]',
    contextHash: 2 ** 51 + 1,
    checksum: 7,
    type: 1,
    siblings: 3,
    entries: 300,
    deadline: 1_800_000_000_123,
    bytes: 70_000,
    hintedFor: ['x', 'y'],
  };
  const w = new ByteWriter(16);
  encodeHolding(w, holding);
  assert.deepEqual(decodeHolding(new ByteReader(w.take())), holding);
});
