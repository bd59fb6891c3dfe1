/** Preference lists: every member once, distinct hosts first, then distinct zones, by the walk of the ring. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { hash52 } from '../base/hash.ts';
import type { Layout, Member } from './layout.ts';
import { Preferences } from './preference.ts';

function member(i: number, host: string, zone = '', weight = 1): Member {
  const id = hash52(`node ${i}`).toString(16).padStart(40, '0');
  return { id, host, zone, weight, bus: '', client: '' };
}

/** Any layout, well claimed or not. */
const layout: fc.Arbitrary<Layout> = fc
  .tuple(
    fc.array(fc.tuple(fc.nat({ max: 4 }), fc.nat({ max: 2 }), fc.constantFrom(0, 1, 1, 1)), {
      minLength: 1,
      maxLength: 10,
      size: 'max',
    }),
    fc.integer({ min: 0, max: 6 }),
    fc.infiniteStream(fc.nat()),
  )
  .map(([shapes, bits, stream]) => {
    // a host stands in one zone
    const members = shapes.map(([host, zone, weight], i) => member(i, `${zone}/${host}`, `z${zone}`, weight));
    if (members.every((m) => m.weight === 0)) members[0] = { ...members[0], weight: 1 };
    const weighted = members.flatMap((m, i) => (m.weight > 0 ? [i] : []));
    const owners = Array.from({ length: 2 ** bits }, () => weighted[stream.next().value % weighted.length]);
    return { version: 1, partitions: 2 ** bits, members, owners };
  });

/** The definition, said plainly: again and again the first of the walk whose host, then zone, is used least. */
function plainList(l: Layout, p: number): number[] {
  const owns = new Set(l.owners);
  const rest = l.members.flatMap((m, i) => (m.weight > 0 && !owns.has(i) ? [i] : []));
  const walk: number[] = [];
  for (let i = 0; i < l.partitions; i++) walk.push(l.owners[(p + i) % l.partitions]);
  for (let i = 0; i < rest.length; i++) walk.push(rest[(p + l.partitions + i) % rest.length]);
  let left = [...new Set(walk)];
  const list: number[] = [];
  const used = (key: 'host' | 'zone', m: number) => list.filter((x) => l.members[x][key] === l.members[m][key]).length;
  while (left.length > 0) {
    let best = left[0];
    for (const m of left) {
      const d = used('host', m) - used('host', best) || used('zone', m) - used('zone', best);
      if (d < 0) best = m;
    }
    list.push(best);
    left = left.filter((m) => m !== best);
  }
  return [...list, ...l.members.flatMap((m, i) => (m.weight === 0 ? [i] : []))];
}

test('lists are what the definition says', () => {
  fc.assert(
    fc.property(layout, (l) => {
      const preferences = new Preferences(l);
      for (let p = 0; p < l.partitions; p++) assert.deepEqual(preferences.list(p), plainList(l, p));
    }),
    { numRuns: 200 },
  );
});

test('home replicas: the first N of the list, distinct members, hosts and zones as far as there are', () => {
  fc.assert(
    fc.property(layout, fc.integer({ min: 1, max: 5 }), (l, n) => {
      const preferences = new Preferences(l);
      const weighted = l.members.filter((m) => m.weight > 0);
      const hosts = new Set(weighted.map((m) => m.host)).size;
      const zones = new Set(weighted.map((m) => m.zone)).size;
      for (let p = 0; p < l.partitions; p++) {
        const homes = preferences.homes(p, n);
        assert.deepEqual(homes, preferences.list(p).slice(0, homes.length));
        assert.equal(homes.length, Math.min(n, weighted.length));
        assert.equal(new Set(homes).size, homes.length);
        assert.equal(new Set(homes.map((m) => l.members[m].host)).size, Math.min(n, hosts));
        assert.equal(homes[0], l.owners[p]);
        if (n <= hosts) assert.ok(new Set(homes.map((m) => l.members[m].zone)).size >= Math.min(n, zones));
        assert.ok(homes.every((m) => l.members[m].weight > 0));
        assert.equal(preferences.list(p).length, l.members.length);
      }
    }),
    { numRuns: 200 },
  );
});

test('one partition has N home replicas too', () => {
  const members = [0, 1, 2].map((i) => member(i, `h${i}`));
  const preferences = new Preferences({ version: 1, partitions: 1, members, owners: [1] });
  assert.deepEqual([...preferences.homes(0, 3)].sort(), [0, 1, 2]);
  assert.equal(preferences.homes(0, 3)[0], 1);
});
