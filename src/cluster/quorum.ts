/**
 * One key's quorum read, pure (paper 4.5 and 5; its shape is that of Riak's get_core): results go in, actions come out.
 * Whom to ask, when there is enough to answer, what is to be repaired is decided here and nowhere else; sending, waiting
 * and merging are `cluster/reads`'s. (Writes are counted by ticks and peers: `cluster/replicator`.)
 *
 * A preference list names every member; its first N are the home replicas, the others are fallbacks. The first N
 * *healthy* ones take part (sloppy quorum). N, R and W shrink to the members there are.
 *
 * A node is named by its id, and the coordinator itself is a node like the others: its own copy is asked.
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
