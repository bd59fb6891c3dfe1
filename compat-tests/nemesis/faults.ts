/**
 * What a nemesis does to a cluster. Each fault is done and undone before the next one, for that is what the ledger's
 * promises are about: with one node away a write has two copies. What destroys a copy (an emptied disk) waits until all
 * replicas agree, as an operator would.
 */
import { sleep } from '../durability/server.ts';
import type { Prng } from '../lib/prng.ts';
import { converged } from './check.ts';
import type { Member, TestCluster } from './cluster.ts';
import type { Load } from './load.ts';

export const FAULTS = ['kill', 'pause', 'cut', 'half-cut', 'isolate', 'swizzle', 'wipe', 'add', 'leave'] as const;
export type Fault = (typeof FAULTS)[number];

/** Faults under which a cluster must answer as a single server does. */
export const STRICT_FAULTS: readonly Fault[] = ['kill', 'pause'];
/** Nodes that are never gone below: each key keeps three. */
const FEWEST = 3;
const MOST = 7;
const CONVERGE_MS = 30_000;
const SETTLE_MS = 30_000;

export interface Scene {
  cluster: TestCluster;
  load: Load;
  prng: Prng;
  say: (text: string) => void;
}

async function setLinks(from: Member, to: readonly Member[], verb: 'CUT' | 'HEAL'): Promise<void> {
  for (const m of to) if (m !== from) await from.call('DYNAMO', 'LINKS', verb, m.id);
}

/** Lets the load rest until all replicas agree. */
export async function agree({ cluster, load, say }: Scene): Promise<void> {
  await load.hold();
  const ms = await converged(cluster, CONVERGE_MS);
  say(`all replicas agree after ${ms.toFixed(0)} ms`);
  load.release();
}

/** Does one fault and undoes it. Returns what was done, or null when the cluster is too small or large for it. */
export async function inflict(fault: Fault, scene: Scene): Promise<string | null> {
  const { cluster, load, prng } = scene;
  const { members } = cluster;
  const victim = prng.pick(members);
  const others = members.filter((m) => m !== victim);
  const hold = 200 + prng.int(1800);
  switch (fault) {
    case 'kill':
      await victim.kill();
      await sleep(hold);
      await victim.restart();
      return `${victim.name} was killed and was down for ${hold} ms`;
    case 'pause':
      victim.pause();
      await sleep(hold);
      victim.resume();
      return `${victim.name} stood still for ${hold} ms`;
    case 'cut': {
      // both ends drop what the other sends
      const other = prng.pick(others);
      await setLinks(victim, [other], 'CUT');
      await setLinks(other, [victim], 'CUT');
      await sleep(hold);
      await setLinks(other, [victim], 'HEAL');
      await setLinks(victim, [other], 'HEAL');
      return `${victim.name} and ${other.name} did not hear each other for ${hold} ms`;
    }
    case 'half-cut': {
      // one end alone: the other takes the link for good until it finds out
      const other = prng.pick(others);
      await setLinks(victim, [other], 'CUT');
      await sleep(hold);
      await setLinks(victim, [other], 'HEAL');
      return `${victim.name} dropped what went between it and ${other.name} for ${hold} ms`;
    }
    case 'isolate':
      await setLinks(victim, others, 'CUT');
      await sleep(hold);
      await setLinks(victim, others, 'HEAL');
      return `${victim.name} was alone for ${hold} ms`;
    case 'swizzle': {
      // all fall apart one by one, and find together in another order
      const order = [...members].sort(() => (prng.chance(0.5) ? 1 : -1));
      for (const m of order) {
        await setLinks(m, members, 'CUT');
        await sleep(hold / 4);
      }
      for (const m of order.sort(() => (prng.chance(0.5) ? 1 : -1))) {
        await setLinks(m, members, 'HEAL');
        await sleep(hold / 4);
      }
      return `${order.map((m) => m.name).join(', ')} fell apart`;
    }
    case 'wipe': {
      await agree(scene);
      const lost = victim.id;
      await victim.kill();
      await sleep(hold);
      await victim.restartEmpty();
      await cluster.settled(SETTLE_MS);
      await agree(scene);
      return `${victim.name} (${lost.slice(0, 8)}) lost its disk and is ${victim.id.slice(0, 8)} now`;
    }
    case 'add': {
      if (members.length >= MOST) return null;
      const added = await cluster.add();
      load.attach(added);
      await cluster.settled(SETTLE_MS);
      return `${added.name} has joined`;
    }
    case 'leave':
      if (members.length <= FEWEST) return null;
      await cluster.planWithout(victim);
      await load.detach(victim);
      cluster.members = others;
      try {
        await cluster.settled(SETTLE_MS);
      } finally {
        await victim.end();
      }
      return `${victim.name} has left`;
  }
}
