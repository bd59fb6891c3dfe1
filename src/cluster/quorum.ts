/**
 * Quorum logic, pure (paper 4.5 and 4.6; its shape is that of Riak's get_core and put_core): results go in, actions come
 * out. Whom to ask, when there is enough to answer, who stands in for whom, what is to be repaired is decided here and
 * nowhere else; sending, waiting and merging are the coordinator's.
 *
 * A preference list names every member; its first N are the home replicas, the others are fallbacks. The first N
 * *healthy* ones take part (sloppy quorum). N, R and W shrink to the members there are.
 *
 * A node is named by its id, and the coordinator itself is a node like the others: its own copy is asked, and acks.
 */
import { assert } from '../base/assert.ts';

/** Who may take part in one request. */
export interface Replicas {
  /** Preference list: every member once, most preferred first. */
  readonly list: readonly string[];
  /** How many of them are home replicas: N, or fewer in a small cluster. */
  readonly homes: number;
}

/** This node's opinion when the request begins (`cluster/detector`). */
export type Health = (node: string) => boolean;

// ---------------------------------------------------------------------- writes

export interface WriteOptions {
  /** One; while a range moves, the old owners' and the new ones', and each must reach W (DESIGN section 6). */
  readonly groups: readonly Replicas[];
  readonly w: number;
  /** Copies below which the write is not acknowledged, though everybody who can be asked has been (`write-min-nodes`). */
  readonly min: number;
  /** The reply depends on the key's state (`INCR`, `SETNX`, `LPOP` ...). */
  readonly dependsOnState: boolean;
  readonly isHealthy: Health;
}

export type WriteAction =
  /** Send the event; to a fallback with a hint that names the owner which it stands in for. */
  | { do: 'send'; node: string; hintFor: string | null }
  /** Nobody is left to stand in: the coordinator keeps the hint beside its own copy, which makes no further copy. */
  | { do: 'remember'; owner: string }
  /** The reply goes out. `degraded`: fewer than W, because no more can be reached. */
  | { do: 'answer'; copies: number; degraded: boolean }
  /** Someone knew more than the reply was made from: fetch, merge, undo by an inverse event, run again. */
  | { do: 'rerun'; node: string }
  /** Someone knew more, and the reply did not depend on it: fetch and merge. */
  | { do: 'fetch'; node: string }
  /** `-NOREPLICAS`; the write may still surface. */
  | { do: 'fail'; copies: number };

interface Target {
  /** Indices of the groups in which it is at home. */
  readonly homeIn: readonly number[];
  /** The owner that it stands in for. */
  readonly owner: string | null;
  state: 'pending' | 'clean' | 'news' | 'failed';
}

/**
 * One write. A reply that depends on state goes out only after W home acks without news: then no other coordinator can
 * have ordered a write that this one did not see. An ack of a fallback stands for its owner's only once that owner has
 * really failed in this request; suspicion alone, which may be wrong on one side only, is not enough.
 */
export class WriteQuorum {
  private readonly options: WriteOptions;
  private readonly targets = new Map<string, Target>();
  /** Owners whose hints the coordinator keeps itself. */
  private readonly remembered = new Set<string>();
  private outcome: 'open' | 'answered' | 'rerun' | 'failed' = 'open';
  private expired = false;

  constructor(options: WriteOptions) {
    assert(options.groups.length > 0 && options.w >= 1, 'a write has owners and wants a copy');
    this.options = options;
  }

  get isOpen(): boolean {
    return this.outcome === 'open';
  }

  /** To all home replicas, suspected ones too; for these also to fallbacks at once. */
  start(): WriteAction[] {
    const actions: WriteAction[] = [];
    this.options.groups.forEach((group) => {
      for (const node of group.list.slice(0, group.homes)) {
        if (this.targets.has(node)) continue;
        const homeIn = this.options.groups.flatMap((g, i) => (g.list.indexOf(node) < g.homes ? [i] : []));
        this.targets.set(node, { homeIn, owner: null, state: 'pending' });
        actions.push({ do: 'send', node, hintFor: null });
      }
    });
    for (const [node, target] of [...this.targets]) {
      if (target.owner === null && !this.options.isHealthy(node)) this.standIn(node, actions);
    }
    return this.conclude(actions);
  }

  /** @param news the replica had seen something that the coordinator had not */
  acked(node: string, news: boolean): WriteAction[] {
    const target = this.targets.get(node);
    // a late ack of one that was given up counts again
    if (target === undefined || (target.state !== 'pending' && target.state !== 'failed')) return [];
    target.state = news ? 'news' : 'clean';
    const actions: WriteAction[] = [];
    if (news) {
      if (this.outcome === 'open' && this.options.dependsOnState) {
        this.outcome = 'rerun';
        return [{ do: 'rerun', node }];
      }
      actions.push({ do: 'fetch', node });
    }
    return this.conclude(actions);
  }

  /** An error, or its adaptive timeout has passed. */
  failed(node: string): WriteAction[] {
    const target = this.targets.get(node);
    if (target === undefined || target.state !== 'pending') return [];
    target.state = 'failed';
    const actions: WriteAction[] = [];
    this.standIn(target.owner ?? node, actions);
    return this.conclude(actions);
  }

  /** The request's own deadline: nobody else is asked, and what there is must do. */
  expire(): WriteAction[] {
    this.expired = true;
    for (const target of this.targets.values()) if (target.state === 'pending') target.state = 'failed';
    return this.conclude([]);
  }

  /** Sends to the next healthy node in place of `owner`, unless somebody stands in for it already. */
  private standIn(owner: string, actions: WriteAction[]): void {
    if (this.expired) return;
    for (const t of this.targets.values()) if (t.owner === owner && t.state !== 'failed') return;
    const group = this.options.groups.find((g) => g.list.indexOf(owner) < g.homes && g.list.includes(owner));
    const node = group?.list.slice(group.homes).find((x) => !this.targets.has(x) && this.options.isHealthy(x));
    if (node === undefined) {
      if (!this.remembered.has(owner)) actions.push({ do: 'remember', owner });
      this.remembered.add(owner);
      return;
    }
    this.targets.set(node, { homeIn: [], owner, state: 'pending' });
    actions.push({ do: 'send', node, hintFor: owner });
  }

  private conclude(actions: WriteAction[]): WriteAction[] {
    if (this.outcome !== 'open') return actions;
    const copies = this.copies();
    const enough = this.options.groups.every((g, i) => this.counted(i) >= Math.min(this.options.w, g.homes));
    if (enough) {
      this.outcome = 'answered';
      actions.push({ do: 'answer', copies, degraded: false });
    } else if (![...this.targets.values()].some((t) => t.state === 'pending')) {
      // nobody is left; a reply that depends on state needs at least one replica that knows the state
      const knows =
        !this.options.dependsOnState || [...this.targets.values()].some((t) => isCopy(t) && t.owner === null);
      const ok = copies >= this.options.min && copies > 0 && knows;
      this.outcome = ok ? 'answered' : 'failed';
      actions.push(ok ? { do: 'answer', copies, degraded: true } : { do: 'fail', copies });
    }
    return actions;
  }

  /** Nodes that hold the event. */
  private copies(): number {
    return [...this.targets.values()].filter(isCopy).length;
  }

  /** Acks that count towards W in one group. */
  private counted(group: number): number {
    let count = 0;
    for (const t of this.targets.values()) {
      if (!isCopy(t)) continue;
      if (t.owner === null) {
        if (t.homeIn.includes(group)) count++;
        continue;
      }
      const owner = this.targets.get(t.owner)!;
      if (!owner.homeIn.includes(group)) continue;
      // a late ack of the owner makes the stand-in's one too many for replies that depend on state
      if (!this.options.dependsOnState || owner.state === 'failed') count++;
    }
    return count;
  }
}

function isCopy(t: Target): boolean {
  return t.state === 'clean' || t.state === 'news';
}

// ---------------------------------------------------------------------- reads

export interface ReadOptions {
  readonly replicas: Replicas;
  readonly r: number;
  /** Replicas below which there is no answer: 1, or R when the client insists on it. */
  readonly min: number;
  /** The coordinator, and whether it holds anything of the key: a fallback that holds nothing is no replica. */
  readonly self: string;
  readonly selfHolds: boolean;
  readonly isHealthy: Health;
}

/** A peer's context beside the coordinator's: the same; covered by it; or with something that it has not seen. */
export type Comparison = 'equal' | 'behind' | 'differs';

export type ReadAction =
  /** Send the key and the hash of the coordinator's context. */
  | { do: 'ask'; node: string }
  /** Get from the peer what is missing here, merge it, then call `fetched`. */
  | { do: 'fetch'; node: string }
  /** `homes`: home replicas that the answer rests on (with R of them a coordinator has tenure of the key). */
  | { do: 'answer'; replicas: number; homes: number; degraded: boolean }
  | { do: 'fail'; replicas: number }
  /** Send the peer what it lacks of the merged state. */
  | { do: 'repair'; node: string };

interface Source {
  readonly home: boolean;
  state: 'asked' | 'fetching' | 'settled' | 'failed';
  /** Late, or not healthy to begin with: another is asked beside it. */
  doubted: boolean;
  holds: boolean;
  behind: boolean;
}

/**
 * One read. The coordinator's own copy is one of R; the others compare contexts. A peer that is equal or merely behind
 * costs nothing more; one that differs is fetched from before it counts. Late replies are taken too, for read repair
 * (paper 5).
 */
export class ReadQuorum {
  private readonly options: ReadOptions;
  private readonly sources = new Map<string, Source>();
  private readonly r: number;
  private readonly min: number;
  private outcome: 'open' | 'answered' | 'failed' = 'open';
  private expired = false;

  constructor(options: ReadOptions) {
    assert(options.r >= 1, 'a read wants a replica');
    this.options = options;
    this.r = Math.max(1, Math.min(options.r, options.replicas.homes));
    this.min = Math.max(1, Math.min(options.min, this.r));
  }

  get isOpen(): boolean {
    return this.outcome === 'open';
  }

  start(): ReadAction[] {
    const { self, selfHolds } = this.options;
    const home = this.isHome(self);
    this.sources.set(self, { home, state: 'settled', doubted: false, holds: selfHolds, behind: false });
    return this.proceed([]);
  }

  /** @param holds false when the peer has nothing of the key */
  replied(node: string, comparison: Comparison, holds: boolean): ReadAction[] {
    const s = this.sources.get(node);
    if (s === undefined || s.state === 'settled' || s.state === 'fetching') return [];
    s.holds = holds;
    if (comparison === 'differs') {
      s.state = 'fetching';
      return this.proceed([{ do: 'fetch', node }]);
    }
    s.state = 'settled';
    s.behind = comparison === 'behind';
    return this.proceed([]);
  }

  /**
   * What the peer had is merged.
   * @param news it had something that nobody else was known to have: those who replied before are behind now
   * @param behind it lacks something of the merged state
   */
  fetched(node: string, news: boolean, behind: boolean): ReadAction[] {
    const s = this.sources.get(node);
    if (s === undefined || s.state !== 'fetching') return [];
    s.state = 'settled';
    if (news) for (const other of this.sources.values()) if (other.state === 'settled') other.behind = true;
    s.behind = behind;
    // the coordinator's own copy has just been merged
    this.sources.get(this.options.self)!.behind = false;
    return this.proceed([]);
  }

  failed(node: string): ReadAction[] {
    const s = this.sources.get(node);
    if (s === undefined || s.state === 'settled' || s.state === 'failed') return [];
    s.state = 'failed';
    return this.proceed([]);
  }

  /** The peer is past its 99th percentile: another is asked as well. */
  hedge(node: string): ReadAction[] {
    const s = this.sources.get(node);
    if (s !== undefined) s.doubted = true;
    return this.proceed([]);
  }

  /** The request's own deadline. */
  expire(): ReadAction[] {
    this.expired = true;
    for (const s of this.sources.values()) if (s.state === 'asked' || s.state === 'fetching') s.state = 'failed';
    return this.proceed([]);
  }

  private isHome(node: string): boolean {
    const { list, homes } = this.options.replicas;
    const at = list.indexOf(node);
    return at >= 0 && at < homes;
  }

  /** Asks as many as may still be needed: healthy home replicas, then doubted ones together with fallbacks. */
  private askMore(actions: ReadAction[]): void {
    if (this.expired) return;
    const { list, homes } = this.options.replicas;
    const ask = (node: string, doubted: boolean) => {
      this.sources.set(node, { home: this.isHome(node), state: 'asked', doubted, holds: false, behind: false });
      actions.push({ do: 'ask', node });
    };
    const fresh = (node: string) => !this.sources.has(node);
    while (this.expected() < this.r || this.expectedReplicas() < this.min) {
      const healthy = list.slice(0, homes).find((x) => fresh(x) && this.options.isHealthy(x));
      if (healthy !== undefined) {
        ask(healthy, false);
        continue;
      }
      // home replicas that are suspected are asked all the same, but nobody waits for them alone
      for (const node of list.slice(0, homes)) if (fresh(node)) ask(node, true);
      const fallback = list.slice(homes).find((x) => fresh(x) && this.options.isHealthy(x));
      if (fallback === undefined) return;
      ask(fallback, false);
    }
  }

  /** Those who have replied or will, as far as one can tell. */
  private expected(): number {
    return this.countSources((s) => s.state === 'settled' || (isWaiting(s) && !s.doubted));
  }

  private expectedReplicas(): number {
    return this.countSources((s) => (s.state === 'settled' && (s.home || s.holds)) || (isWaiting(s) && !s.doubted));
  }

  private countSources(what: (s: Source) => boolean): number {
    let count = 0;
    for (const s of this.sources.values()) if (what(s)) count++;
    return count;
  }

  private proceed(actions: ReadAction[]): ReadAction[] {
    if (this.outcome === 'open') {
      const settled = this.countSources((s) => s.state === 'settled');
      const replicas = this.countSources((s) => s.state === 'settled' && (s.home || s.holds));
      const homes = this.countSources((s) => s.state === 'settled' && s.home);
      if (settled >= this.r && replicas >= this.min) {
        this.outcome = 'answered';
        actions.push({ do: 'answer', replicas, homes, degraded: false });
      } else {
        this.askMore(actions);
        if (this.countSources(isWaiting) === 0) {
          const ok = replicas >= this.min;
          this.outcome = ok ? 'answered' : 'failed';
          actions.push(ok ? { do: 'answer', replicas, homes, degraded: true } : { do: 'fail', replicas });
        }
      }
    }
    if (this.outcome === 'answered') this.repair(actions);
    return actions;
  }

  /** Home replicas that are behind get what they lack; a fallback only holds what its hints say. */
  private repair(actions: ReadAction[]): void {
    for (const [node, s] of this.sources) {
      if (s.state !== 'settled' || !s.behind || !s.home || node === this.options.self) continue;
      s.behind = false;
      actions.push({ do: 'repair', node });
    }
  }
}

function isWaiting(s: Source): boolean {
  return s.state === 'asked' || s.state === 'fetching';
}
