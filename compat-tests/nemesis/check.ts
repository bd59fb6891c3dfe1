/**
 * Looks at a cluster after the faults: do the replicas agree, and is what they agree on what the ledger allows?
 */
import { connectTo, eventually, type Member, reasonOf, type TestCluster, usable } from './cluster.ts';
import { itemsOf, type Ledger, type Versions } from './ledger.ts';

const SLOTS = 16_384;
const REPLICAS = 3;
const BATCH = 200;
const READ_TIMEOUT_MS = 20_000;

type SlotRange = [start: number, end: number, ...nodes: [host: string, port: number, id: string][]];

/** '' when all replicas hold the same, else what does not. */
export async function disagreement(cluster: TestCluster): Promise<string> {
  const { members } = cluster;
  if (members.length <= REPLICAS) {
    const digests = await Promise.all(members.map((m) => m.call('DEBUG', 'DIGEST')));
    return new Set(digests).size === 1 ? '' : `digests ${digests.map((d) => String(d).slice(0, 8)).join(' ')}`;
  }
  const asked = members[0];
  const partitions = Number((await asked.info('dynamo')).get('partitions'));
  const ranges = (await asked.call('CLUSTER', 'SLOTS')) as SlotRange[];
  const byPort = new Map(members.map((m) => [m.port, m]));
  const differing: number[] = [];
  for (const [start, end, ...nodes] of ranges) {
    const homes = nodes.map(([, port]) => byPort.get(port)).filter((m) => m !== undefined);
    if (homes.length < REPLICAS) return `slots ${start}-${end} are served by ${homes.length} nodes`;
    const width = SLOTS / partitions;
    for (let p = Math.floor(start / width); p * width <= end; p++) {
      const digests = await Promise.all(homes.map((m) => m.call('DEBUG', 'DIGEST', String(p))));
      if (new Set(digests).size > 1) differing.push(p);
    }
  }
  return differing.length === 0 ? '' : `partitions ${differing.slice(0, 20).join(' ')} differ`;
}

/** Waits for all replicas to agree. Returns how long it took, in ms; throws when they do not in time. */
export async function converged(cluster: TestCluster, timeoutMs: number): Promise<number> {
  const began = performance.now();
  let last = '';
  const ok = await eventually(timeoutMs, async () => {
    last = await disagreement(cluster).catch(reasonOf);
    return last === '';
  });
  if (!ok) throw new Error(`no agreement after ${timeoutMs} ms: ${last}`);
  return performance.now() - began;
}

/** Keys of the ledger of which two nodes show different things, and what; a few of them, for a report. */
export async function differingKeys(ledger: Ledger, cluster: TestCluster, most = 5): Promise<string[]> {
  const { singles, counters, races, blind, baskets, rising } = ledger;
  const keys = [counters, rising, baskets, blind, races, singles].flatMap((map: Map<string, unknown>) => [
    ...map.keys(),
  ]);
  const found: string[] = [];
  for (let at = 0; at < keys.length && found.length < most; at += BATCH) {
    const part = keys.slice(at, at + BATCH);
    const shown = await Promise.all(
      cluster.members.map(async (m) => {
        const redis = connectTo(m.port, READ_TIMEOUT_MS);
        try {
          await usable(redis);
          const pipeline = redis.pipeline();
          for (const key of part) pipeline.call('DYNAMO', 'PEEK', key);
          const answers = (await pipeline.exec()) ?? [];
          // the context is sealed for each reader anew: what counts is what is in it
          return answers.map(([error, reply]) => (error === null ? String((reply as unknown[])[1]) : error.message));
        } finally {
          redis.disconnect();
        }
      }),
    );
    part.forEach((key, i) => {
      const each = shown.map((s) => s[i]);
      // who does not hold a key of five nodes shows nothing
      const held = cluster.members.length > REPLICAS ? each.filter((s) => s !== '') : each;
      if (new Set(held).size > 1 && found.length < most)
        found.push(`${key}: ${each.map((s, n) => `${cluster.members[n].name} has [${s}]`).join(', ')}`);
    });
  }
  return found;
}

/** Asks for many keys, through all nodes in turn. */
async function ask<T>(
  members: readonly Member[],
  keys: readonly string[],
  command: readonly string[],
  each: (key: string, reply: T) => void,
): Promise<void> {
  const connections = members.map((m) => connectTo(m.port, READ_TIMEOUT_MS));
  try {
    for (let at = 0; at < keys.length; at += BATCH) {
      const redis = connections[(at / BATCH) % connections.length];
      if (!(await usable(redis))) throw new Error('a node can not be reached');
      const part = keys.slice(at, at + BATCH);
      const pipeline = redis.pipeline();
      for (const key of part) pipeline.call(command[0], key, ...command.slice(1));
      const answers = (await pipeline.exec()) ?? [];
      part.forEach((key, i) => {
        const [error, reply] = answers[i];
        if (error !== null) throw new Error(`${command[0]} ${key}: ${error.message}`);
        each(key, reply as T);
      });
    }
  } finally {
    for (const redis of connections) redis.disconnect();
  }
}

function checkVersions(key: string, { writes }: Versions, values: readonly string[], wrong: (text: string) => void) {
  for (const value of values) if (!writes.has(value)) wrong(`${key} has a sibling that nobody wrote: ${value}`);
  if (new Set(values).size < values.length) wrong(`${key} has a sibling twice: ${values.join(' ')}`);
  for (const [value, { outcome, covers }] of writes) {
    if (outcome !== 'acked') continue;
    for (const old of covers)
      if (values.includes(old)) wrong(`${key}: ${old} is there, though ${value} had replaced it`);
  }
}

/**
 * What is not as the clients were told.
 * @param strict no links were cut, and no two nodes were away at once: then nothing that a node answers may surprise
 */
export async function violations(ledger: Ledger, cluster: TestCluster, strict: boolean): Promise<string[]> {
  const found: string[] = strict ? [...ledger.surprises] : [];
  const wrong = (text: string) => found.push(text);
  const members = cluster.up;

  await ask<string | null>(members, [...ledger.singles.keys()], ['GET'], (key, value) => {
    const { value: written, set, deleted } = ledger.singles.get(key)!;
    if (value !== null && value !== written) wrong(`${key} is ${value}, which nobody wrote`);
    if (value === null && set === 'acked' && deleted === 'no') wrong(`${key} is lost`);
    if (value !== null && deleted === 'acked') wrong(`${key} is there again, though it was deleted`);
  });
  await ask<string | null>(members, [...ledger.counters.keys()], ['GET'], (key, value) => {
    const { acked, unknown } = ledger.counters.get(key)!;
    const n = Number(value);
    if (n < acked || n > acked + unknown) wrong(`${key} is ${n}: ${acked} acknowledged, ${unknown} unknown`);
  });
  await ask<string | null>(members, [...ledger.rising.keys()], ['GET'], (key, value) => {
    const { acked, unknown } = ledger.rising.get(key)!;
    const n = Number(value);
    if (n !== acked && !unknown.has(n)) wrong(`${key} is ${n}, and ${acked} was acknowledged last`);
  });
  await ask<string | null>(members, [...ledger.races.keys()], ['GET'], (key, value) => {
    const { winners, unknown, losers } = ledger.races.get(key)!;
    if (strict && winners.length > 1) wrong(`${key} was won by ${winners.join(' and ')}`);
    if (value === null) {
      if (winners.length > 0) wrong(`${key} is lost, though ${winners.join(' and ')} had won`);
      // on two sides of a cut each may give way to the other
      else if (strict && losers > 0) wrong(`${key} was won by nobody, though ${losers} were told that it was`);
    } else if (![...winners, ...unknown].includes(value)) wrong(`${key} is ${value}, won by ${winners.join()}`);
  });
  await ask<[string, string[]]>(members, [...ledger.blind.keys()], ['DGET'], (key, [, values]) => {
    const versions = ledger.blind.get(key)!;
    checkVersions(key, versions, values, wrong);
    for (const [value, { outcome }] of versions.writes)
      if (outcome === 'acked' && !values.includes(value)) wrong(`${key} has lost the sibling ${value}`);
  });
  await ask<[string, string[]]>(members, [...ledger.baskets.keys()], ['DGET'], (key, [, values]) => {
    const versions = ledger.baskets.get(key)!;
    checkVersions(key, versions, values, wrong);
    const items = new Set(values.flatMap(itemsOf));
    for (const [value, { outcome }] of versions.writes) {
      // each version's last item is its writer's own
      const own = itemsOf(value).at(-1)!;
      if (outcome === 'acked' && !items.has(own)) wrong(`${key} has lost the item ${own}`);
    }
  });
  return found;
}
