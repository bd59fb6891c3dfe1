/**
 * What goes wrong, from the seed: episodes of one or two faults, with calm between them, then everything healed.
 *
 * It stays within what is promised. Under `everysec` a write is acknowledged before it is on any disk, so a process
 * or a machine dies only while all others are well, and not soon after another: then W copies were in memory, and all
 * but one stay. Under `always` anything may die at any time. A disk is lost only when everybody is whole.
 */
import type { Machine, SimCluster } from './cluster.ts';
import { FAST_DISK, SLOW_DISK } from './disk.ts';
import { CALM } from './network.ts';
import type { SeededRandom } from './random.ts';

export const FAULTS = [
  'slow',
  'loss',
  'break',
  'cut',
  'clog',
  'swizzle',
  'pause',
  'kill',
  'power',
  'clock',
  'full',
  'slowdisk',
  'join',
  'leave',
  'wipe',
] as const;

export type Fault = (typeof FAULTS)[number];

/** All that need nothing but the nodes that are there. */
export const USUAL_FAULTS: Fault[] = FAULTS.filter((f) => !['join', 'leave', 'wipe'].includes(f));

/** Faults that cost a process its memory: see above. */
const DEADLY: ReadonlySet<Fault> = new Set<Fault>(['kill', 'power', 'wipe']);
/** Faults that change who holds what: one at a time, and with time to move. */
const MOVING: ReadonlySet<Fault> = new Set<Fault>(['join', 'leave', 'wipe']);
/** Faults under which order holds all the same (DESIGN section 6, tenure). */
export const ORDERLY: ReadonlySet<Fault> = new Set<Fault>(['slow', 'pause', 'join', 'slowdisk']);
/** Faults that need other nodes to be what they are. */
const SOCIAL: ReadonlySet<Fault> = new Set<Fault>(['cut', 'clog', 'swizzle', 'join', 'leave', 'wipe']);

/** How long everybody must have been well before something deadly, in ms. */
const REST_MS = 4000;
const MOVE_LIMIT_MS = 30_000;
const MAX_EXTRA_NODES = 2;

export class Nemesis {
  /** Every fault with its times. */
  readonly episodes: { faults: Fault[]; fromMs: number; toMs: number }[] = [];
  /** Wall clocks were wrong by up to this. */
  clockErrorMs = 0;
  private readonly cluster: SimCluster;
  private readonly random: SeededRandom;
  private readonly faults: Fault[];
  private readonly safe: boolean;
  private readonly mixed: boolean;
  /** Machines that are on their way out: whoever starts one of these again has it join again. */
  private readonly leaving = new Set<Machine>();

  /** @param options.mixed nodes join and leave while other things go wrong */
  constructor(
    cluster: SimCluster,
    random: SeededRandom,
    faults: readonly Fault[],
    options: { everyWriteSynced: boolean; mixed?: boolean },
  ) {
    this.cluster = cluster;
    this.random = random;
    this.safe = options.everyWriteSynced;
    this.mixed = options.mixed ?? false;
    // alone, and with acks from memory, a death loses what it may
    const alone = (f: Fault) => !SOCIAL.has(f) && (this.safe || !DEADLY.has(f));
    this.faults = cluster.clustered ? [...faults] : faults.filter(alone);
  }

  private between(from: number, to: number): number {
    return from + this.random.next() * (to - from);
  }

  private pick<T>(list: readonly T[]): T {
    return list[this.random.int(list.length)];
  }

  private shuffled<T>(list: readonly T[]): T[] {
    const copy = [...list];
    for (let i = copy.length - 1; i > 0; i--) {
      const j = this.random.int(i + 1);
      [copy[i], copy[j]] = [copy[j], copy[i]];
    }
    return copy;
  }

  private get time() {
    return this.cluster.time;
  }

  /** Brings trouble until `untilMs`; resolves when the last episode is over. */
  async run(untilMs: number): Promise<void> {
    if (this.faults.length === 0) return;
    for (;;) {
      const first = this.pick(this.faults);
      const second = this.pick(this.faults);
      const alone = (f: Fault) => (this.mixed ? f === 'wipe' : MOVING.has(f)) || (DEADLY.has(f) && !this.safe);
      const faults =
        this.random.next() < (this.mixed ? 0.8 : 0.4) && first !== second && !alone(first) && !alone(second)
          ? [first, second]
          : [first];
      await this.time.sleep(faults.some(alone) ? this.between(REST_MS, REST_MS + 2000) : this.between(200, 2500));
      if (this.time.monotonic() >= untilMs) return;
      const episode = { faults, fromMs: this.time.monotonic(), toMs: Number.POSITIVE_INFINITY };
      this.episodes.push(episode);
      this.cluster.trace.note(`nemesis ${faults.join(' and ')}`);
      await Promise.all(faults.map((f) => this.bring(f)));
      episode.toMs = this.time.monotonic();
      this.cluster.trace.note(`nemesis ${faults.join(' and ')} is over`);
    }
  }

  /** Ends everything that is still wrong. */
  heal(): void {
    const { cluster } = this;
    cluster.trace.note('nemesis heals all');
    cluster.network.healAll();
    cluster.network.faults = CALM;
    for (const m of cluster.machines) {
      m.disk.failing = null;
      m.disk.times = FAST_DISK;
      cluster.skew(m, 0);
      cluster.resume(m);
      if (m.state === 'down' && m.member) void cluster.start(m);
    }
  }

  private up(): Machine[] {
    return this.cluster.machines.filter((m) => m.state === 'up' && m.member && !this.leaving.has(m));
  }

  private async bring(fault: Fault): Promise<void> {
    const { cluster, random, time } = this;
    const { network } = cluster;
    const ms = -Math.log(1 - random.next()) * 2500 + 200;
    const victims = this.shuffled(this.up());
    const victim = victims[0];
    if (victim === undefined) return time.sleep(ms);
    switch (fault) {
      case 'slow':
        network.faults = { ...network.faults, delay: { kind: 'exponential', min: 1, mean: this.between(5, 150) } };
        await time.sleep(ms);
        network.faults = { ...network.faults, delay: CALM.delay };
        return;
      case 'loss': {
        const share = this.between(0.02, 0.3);
        network.faults = { ...network.faults, loss: share, duplication: share, reordering: share };
        await time.sleep(ms);
        network.faults = { ...network.faults, loss: 0, duplication: 0, reordering: 0 };
        return;
      }
      case 'break':
        network.faults = { ...network.faults, breakage: this.between(0.002, 0.05) };
        await time.sleep(ms);
        network.faults = { ...network.faults, breakage: 0 };
        return;
      case 'cut':
        return this.cut(ms);
      case 'clog': {
        const links: [string, string][] = [];
        for (const a of cluster.machines) {
          for (const b of cluster.machines) if (a !== b && random.next() < 0.4) links.push([a.host, b.host]);
        }
        for (const [a, b] of links) network.clog(a, b);
        await time.sleep(ms);
        for (const [a, b] of links) network.unclog(a, b);
        return;
      }
      case 'swizzle':
        return this.swizzle(victims.slice(0, 1 + random.int(victims.length)), ms);
      case 'pause':
        cluster.pause(victim);
        await time.sleep(ms * (random.next() < 0.3 ? 5 : 1));
        cluster.resume(victim);
        return;
      case 'kill':
      case 'power': {
        if (fault === 'kill') cluster.kill(victim);
        else cluster.powerCut(victim);
        await time.sleep(ms);
        return this.restart(victim);
      }
      case 'clock': {
        const off = random.next() < 0.2 ? this.between(-90_000, 90_000) : this.between(-2000, 2000);
        this.clockErrorMs = Math.max(this.clockErrorMs, Math.abs(off));
        cluster.skew(victim, off);
        await time.sleep(ms);
        if (random.next() < 0.5) cluster.skew(victim, 0);
        return;
      }
      case 'full':
        victim.disk.failing = 'SQLITE_FULL: database or disk is full';
        await time.sleep(ms);
        victim.disk.failing = null;
        return;
      case 'slowdisk':
        victim.disk.times = SLOW_DISK;
        await time.sleep(ms);
        victim.disk.times = FAST_DISK;
        return;
      case 'join':
        if (cluster.machines.length >= MAX_EXTRA_NODES + 3 && random.next() < 0.8) return;
        void cluster.join();
        await cluster.ready(MOVE_LIMIT_MS);
        return;
      case 'leave':
        if (cluster.members.length <= cluster.n) return;
        this.leaving.add(victim);
        await cluster.leave(victim, MOVE_LIMIT_MS);
        // one that nobody has planned without stays
        if (victim.member) this.leaving.delete(victim);
        return;
      case 'wipe': {
        if (this.up().length < cluster.members.length || cluster.members.length < 3) return;
        const { nodeId } = victim.server!;
        cluster.wipe(victim);
        await time.sleep(ms);
        await this.restart(victim);
        await cluster.expel(nodeId, MOVE_LIMIT_MS);
        // until it holds its share again the others are all there is
        await cluster.ready(MOVE_LIMIT_MS);
        await time.sleep(MOVE_LIMIT_MS);
        return;
      }
    }
  }

  /** Starts it again; it may be killed meanwhile, so nobody waits for `start` itself. */
  private async restart(machine: Machine): Promise<void> {
    if (machine.state !== 'down') return;
    void this.cluster.start(machine);
    const starting = () => machine.state === 'starting';
    for (let i = 0; i < 200 && starting(); i++) await this.time.sleep(50);
  }

  /** Some from the others: both ways, one way, or all but one that both sides can reach. */
  private async cut(ms: number): Promise<void> {
    const { cluster, random } = this;
    const all = this.shuffled(cluster.machines.map((m) => m.host));
    const at = 1 + random.int(Math.max(1, all.length - 1));
    const shape = random.int(3);
    const one = all.slice(0, at);
    const other = all.slice(shape === 2 && all.length > 2 ? Math.min(at + 1, all.length - 1) : at);
    for (const a of one) {
      for (const b of other) {
        if (a === b) continue;
        cluster.network.cut(a, b);
        if (shape !== 1) cluster.network.cut(b, a);
      }
    }
    cluster.trace.note(
      `cut ${['both ways', 'one way', 'with a bridge'][shape]}: ${one.join(' ')} | ${other.join(' ')}`,
    );
    await this.time.sleep(ms * 2);
    for (const a of one) {
      for (const b of other) {
        cluster.network.heal(a, b);
        cluster.network.heal(b, a);
      }
    }
  }

  /** Stops nodes' links one by one and lets them go in another order (FoundationDB's "swizzle-clogging"). */
  private async swizzle(victims: Machine[], ms: number): Promise<void> {
    const { cluster } = this;
    const links = (m: Machine): [string, string][] =>
      cluster.machines
        .filter((o) => o !== m)
        .flatMap((o): [string, string][] => [
          [m.host, o.host],
          [o.host, m.host],
        ]);
    for (const m of victims) {
      for (const [a, b] of links(m)) cluster.network.clog(a, b);
      await this.time.sleep(this.between(0, ms / victims.length));
    }
    for (const m of this.shuffled(victims)) {
      for (const [a, b] of links(m)) cluster.network.unclog(a, b);
      await this.time.sleep(this.between(0, ms / victims.length));
    }
  }
}
