/**
 * Membership as each node knows it (paper 4.8.1 and 4.8.2): one entry for every node ever heard of, spread by gossip.
 *
 * An entry has two parts. The *facts* are the node's own word, versioned by (session, heartbeat): each start of the node
 * is a session, each round of gossip a heartbeat. The *mark* is others' word on it, for what a node can't say itself:
 * that it has left, or was expelled. Marks only grow; they bind one incarnation of the node's data, so that a node that
 * comes back empty, as a new incarnation, is free of them. Of both the higher wins, so merging is idempotent,
 * commutative and associative, and in whatever order gossip comes all nodes end with the same.
 *
 * Entries are never dropped: one that were could come back from a node that was cut off. Seeds are contacted for ever,
 * known or not, so that no two parts of a cluster can live side by side without hearing of each other.
 *
 * Gossip carries the layout's name and not the layout; whoever hears of a better one fetches it. It says nothing about
 * who is up: that is `cluster/detector`.
 */
import { ByteReader, ByteWriter, TruncatedError } from '../base/bytes.ts';
import type { Random } from '../ports/clock.ts';
import { compareLayouts, type LayoutName, MAX_MEMBER_FIELD_CHARS, MAX_WEIGHT, NODE_ID_DIGITS } from '../ring/layout.ts';

/** A node gossips with a random peer this often, in ms (paper 4.8.1: each second). */
export const GOSSIP_MS = 1000;
/** Nodes ever heard of. */
export const MAX_KNOWN_NODES = 16_384;
/** Chance that a round goes to a seed as well, though it is a known peer like others. */
export const SEED_CHANCE = 0.1;

export interface Facts {
  /** Counts the node's starts; peers remember it. An older one than they know is a restored or rolled-back disk. */
  readonly session: number;
  /**
   * Drawn at random at each start, 32 bits: a restored disk can count up to a session number that was used before, and
   * then the heartbeat alone would let it pass for the same one.
   */
  readonly nonce: number;
  /** Counts rounds and changes within a session. */
  readonly heartbeat: number;
  /** Counts the times that the node's data began empty. */
  readonly incarnation: number;
  readonly bus: string;
  readonly client: string;
  readonly host: string;
  readonly zone: string;
  readonly weight: number;
  /** The layout that the node goes by; version 0 for none. */
  readonly layout: LayoutName;
  /** The node wishes to leave; it may change its mind. */
  readonly leaving: boolean;
}

export const MARKS = ['none', 'left', 'expelled'] as const;
export type Mark = (typeof MARKS)[number];

export interface Entry {
  /** 40 hex digits. */
  readonly id: string;
  readonly facts: Facts;
  /** Binds incarnations up to this one. */
  readonly markedIncarnation: number;
  readonly mark: Mark;
}

/** What a message from a peer brought. */
export type GossipChange =
  | { kind: 'node'; entry: Entry }
  /** A known node has started again, or has moved to other addresses. */
  | { kind: 'restarted' | 'moved'; entry: Entry; before: Entry }
  | { kind: 'leaving' | 'marked'; entry: Entry }
  /** `id` goes by a layout that holds over ours (`ring/layout`). */
  | { kind: 'layout'; id: string; layout: LayoutName }
  /**
   * Peers know a session of ours that is later than this one, or the same begun another time: our disk went back, or two
   * run with copies of it. Call `restart` with a higher session, and a higher incarnation if the data is given up.
   */
  | { kind: 'superseded'; session: number; incarnation: number }
  /** This incarnation of our data is no longer a member's: join again empty. */
  | { kind: 'expelled' };

/** The mark that binds an entry's present incarnation. */
export function effectiveMark(e: Entry): Mark {
  return e.markedIncarnation >= e.facts.incarnation ? e.mark : 'none';
}

// ---------------------------------------------------------------------- merging

function compareFacts(a: Facts, b: Facts): number {
  return (
    a.session - b.session ||
    a.nonce - b.nonce ||
    a.heartbeat - b.heartbeat ||
    compareStrings(factBytes(a), factBytes(b))
  );
}

function compareStrings(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** The join of two entries of one node. */
export function mergeEntries(a: Entry, b: Entry): Entry {
  const facts = compareFacts(a.facts, b.facts) >= 0 ? a.facts : b.facts;
  const marked = compareMarks(a, b) >= 0 ? a : b;
  return { id: a.id, facts, markedIncarnation: marked.markedIncarnation, mark: marked.mark };
}

function compareMarks(a: Entry, b: Entry): number {
  return a.markedIncarnation - b.markedIncarnation || MARKS.indexOf(a.mark) - MARKS.indexOf(b.mark);
}

// ---------------------------------------------------------------------- bytes

const scratch = new ByteWriter(512);

function encodeFacts(w: ByteWriter, f: Facts): void {
  w.varint(f.session);
  w.u32(f.nonce);
  w.varint(f.heartbeat);
  w.varint(f.incarnation);
  w.str(f.bus);
  w.str(f.client);
  w.str(f.host);
  w.str(f.zone);
  w.varint(f.weight);
  w.varint(f.layout.version);
  w.u53(f.layout.hash);
  w.u8(f.leaving ? 1 : 0);
}

function factBytes(f: Facts): string {
  scratch.reset();
  encodeFacts(scratch, f);
  return scratch.latin1();
}

function field(r: ByteReader): string {
  const n = r.varint();
  if (n > MAX_MEMBER_FIELD_CHARS) throw new TruncatedError();
  return r.rawStr(n);
}

function decodeFacts(r: ByteReader): Facts {
  const session = r.varint();
  const nonce = r.u32();
  const heartbeat = r.varint();
  const incarnation = r.varint();
  const bus = field(r);
  const client = field(r);
  const host = field(r);
  const zone = field(r);
  const weight = r.varint();
  if (weight > MAX_WEIGHT) throw new TruncatedError();
  const layout = { version: r.varint(), hash: r.u53() };
  return { session, nonce, heartbeat, incarnation, bus, client, host, zone, weight, layout, leaving: r.u8() === 1 };
}

function encodeId(w: ByteWriter, id: string): void {
  w.bytes(Buffer.from(id, 'hex'));
}

function decodeId(r: ByteReader): string {
  return Buffer.from(r.rawStr(NODE_ID_DIGITS / 2), 'latin1').toString('hex');
}

function encodeEntry(w: ByteWriter, e: Entry): void {
  encodeId(w, e.id);
  encodeFacts(w, e.facts);
  w.varint(e.markedIncarnation);
  w.u8(MARKS.indexOf(e.mark));
}

function decodeEntry(r: ByteReader): Entry {
  const id = decodeId(r);
  const facts = decodeFacts(r);
  const markedIncarnation = r.varint();
  const mark = MARKS[r.u8()];
  if (mark === undefined) throw new TruncatedError();
  return { id, facts, markedIncarnation, mark };
}

function decodeCount(r: ByteReader): number {
  const n = r.varint();
  if (n > MAX_KNOWN_NODES) throw new TruncatedError();
  return n;
}

const GOSSIP_FORMAT = 1;
const HISTORY_FORMAT = 1;
/** The three messages of an exchange: what I know of; what you lack and what I want; what you wanted. */
const DIGEST = 0;
const ANSWER = 1;
const ENTRIES = 2;

// ---------------------------------------------------------------------- the state machine

export class Gossip {
  readonly id: string;
  private readonly known = new Map<string, Entry>();
  private readonly seedList: string[] = [];
  private superseded = false;

  /** @param facts of this session; the session number must have been made durable before */
  constructor(id: string, facts: Omit<Facts, 'heartbeat'>, seeds: readonly string[] = []) {
    this.id = id;
    this.known.set(id, { id, facts: { ...facts, heartbeat: 0 }, markedIncarnation: 0, mark: 'none' });
    this.addSeeds(seeds);
  }

  get self(): Entry {
    return this.known.get(this.id)!;
  }

  get seeds(): readonly string[] {
    return this.seedList;
  }

  entry(id: string): Entry | null {
    return this.known.get(id) ?? null;
  }

  /** Every node ever heard of, in order of id. */
  entries(): Entry[] {
    return [...this.known.values()].sort((a, b) => compareStrings(a.id, b.id));
  }

  /** Seeds are only ever added. */
  addSeeds(seeds: readonly string[]): void {
    for (const s of seeds) if (!this.seedList.includes(s)) this.seedList.push(s);
  }

  // ------------------------------------------------------------------ our own word

  /** Once a round. */
  beat(): void {
    this.change({});
  }

  /** Changes our own facts. Nothing is said while a later session of ours is known: see `superseded`. */
  change(facts: Partial<Omit<Facts, 'session' | 'heartbeat' | 'incarnation'>>): void {
    if (this.superseded) return;
    const before = this.self;
    const heartbeat = before.facts.heartbeat + 1;
    this.known.set(this.id, { ...before, facts: { ...before.facts, ...facts, heartbeat } });
  }

  /** Begins a new session of ours: higher than any that peers know. `incarnation` grows when the data begins empty. */
  restart(facts: Omit<Facts, 'heartbeat'>): void {
    this.known.set(this.id, { ...this.self, facts: { ...facts, heartbeat: 0 } });
    this.superseded = false;
  }

  /** Says of a node that its present incarnation has left or is expelled. A weaker mark than it has changes nothing. */
  mark(id: string, mark: Mark): void {
    const e = this.known.get(id);
    if (e === undefined) return;
    this.known.set(id, mergeEntries(e, { ...e, markedIncarnation: e.facts.incarnation, mark }));
  }

  /** A message that says what is known of one node, to somebody who has not asked. */
  tell(id: string): Buffer | null {
    const e = this.known.get(id);
    return e === undefined ? null : this.message(ENTRIES, [e], []);
  }

  // ------------------------------------------------------------------ rounds

  /**
   * Bus addresses to gossip with this round: a random known node, whether it seems up or not; a seed that no known node
   * stands at, for as long as there is one; and now and then another seed, so that parts of a cluster find each other.
   */
  partners(random: Random): string[] {
    const own = this.self.facts.bus;
    const peers = this.entries()
      .filter((e) => e.id !== this.id && effectiveMark(e) === 'none' && e.facts.bus !== '')
      .map((e) => e.facts.bus);
    const seeds = this.seedList.filter((s) => s !== own);
    const strangers = seeds.filter((s) => !peers.includes(s));
    const chosen = new Set<string>();
    const pick = (list: string[]) => {
      if (list.length > 0) chosen.add(list[Math.floor(random.next() * list.length)]);
    };
    pick(peers);
    pick(strangers);
    if (random.next() < SEED_CHANCE) pick(seeds);
    return [...chosen];
  }

  /** The first message of an exchange: each known node with the versions of its two parts. */
  digest(): Buffer {
    const w = new ByteWriter(1024);
    w.u8(GOSSIP_FORMAT);
    w.u8(DIGEST);
    w.varint(this.known.size);
    for (const e of this.known.values()) {
      encodeId(w, e.id);
      w.varint(e.facts.session);
      w.u32(e.facts.nonce);
      w.varint(e.facts.heartbeat);
      w.varint(e.markedIncarnation);
      w.u8(MARKS.indexOf(e.mark));
    }
    return w.take();
  }

  /** Takes a message; gives the reply, if there is one, and what has changed. Throws `TruncatedError` when malformed. */
  receive(bytes: Buffer): { reply: Buffer | null; changes: GossipChange[] } {
    const r = new ByteReader(bytes);
    if (r.u8() !== GOSSIP_FORMAT) throw new TruncatedError();
    const kind = r.u8();
    if (kind === DIGEST) return this.answer(r);
    if (kind !== ANSWER && kind !== ENTRIES) throw new TruncatedError();
    const entries = Array.from({ length: decodeCount(r) }, () => decodeEntry(r));
    const wanted = kind === ANSWER ? Array.from({ length: decodeCount(r) }, () => decodeId(r)) : [];
    const changes = entries.flatMap((e) => this.merge(e));
    const asked = wanted.flatMap((id) => this.known.get(id) ?? []);
    return { reply: asked.length > 0 ? this.message(ENTRIES, asked, []) : null, changes };
  }

  /** To a digest: the entries that are newer here, and the ids that are newer there. */
  private answer(r: ByteReader): { reply: Buffer | null; changes: GossipChange[] } {
    const changes: GossipChange[] = [];
    const send: Entry[] = [];
    const want: string[] = [];
    const named = new Set<string>();
    const count = decodeCount(r);
    for (let i = 0; i < count; i++) {
      const id = decodeId(r);
      const session = r.varint();
      const nonce = r.u32();
      const heartbeat = r.varint();
      const markedIncarnation = r.varint();
      const mark = r.u8();
      named.add(id);
      const own = this.known.get(id);
      if (own === undefined) {
        want.push(id);
        continue;
      }
      const facts = own.facts.session - session || own.facts.nonce - nonce || own.facts.heartbeat - heartbeat;
      const marks = own.markedIncarnation - markedIncarnation || MARKS.indexOf(own.mark) - mark;
      // one session with two nonces: the node must hear of the other one, before it is overwritten here
      const twice = own.facts.session === session && own.facts.nonce !== nonce;
      if (id === this.id && (twice || facts < 0)) changes.push(this.supersede(session, own.facts.incarnation));
      if (facts > 0 || marks > 0 || twice) send.push(own);
      if (facts < 0 || marks < 0) want.push(id);
    }
    for (const e of this.known.values()) if (!named.has(e.id)) send.push(e);
    const reply = send.length > 0 || want.length > 0 ? this.message(ANSWER, send, want) : null;
    return { reply, changes };
  }

  private supersede(session: number, incarnation: number): GossipChange {
    this.superseded = true;
    return { kind: 'superseded', session, incarnation };
  }

  private message(kind: number, entries: Entry[], wanted: string[]): Buffer {
    const w = new ByteWriter(1024);
    w.u8(GOSSIP_FORMAT);
    w.u8(kind);
    w.varint(entries.length);
    for (const e of entries) encodeEntry(w, e);
    if (kind === ANSWER) {
      w.varint(wanted.length);
      for (const id of wanted) encodeId(w, id);
    }
    return w.take();
  }

  /** Joins one entry into what is known. */
  merge(e: Entry): GossipChange[] {
    const before = this.known.get(e.id);
    if (before === undefined) {
      if (this.known.size >= MAX_KNOWN_NODES) return [];
      this.known.set(e.id, e);
      return [{ kind: 'node', entry: e }, ...this.layoutChange(e)];
    }
    const after = mergeEntries(before, e);
    this.known.set(e.id, after);
    const changes: GossipChange[] = [];
    if (e.id === this.id) {
      const twice = e.facts.session === before.facts.session && e.facts.nonce !== before.facts.nonce;
      if (twice || compareFacts(e.facts, before.facts) > 0) {
        const incarnation = Math.max(e.facts.incarnation, before.facts.incarnation);
        changes.push(this.supersede(after.facts.session, incarnation));
      }
      if (effectiveMark(after) === 'expelled' && effectiveMark(before) !== 'expelled')
        changes.push({ kind: 'expelled' });
      return changes;
    }
    const was = before.facts;
    const is = after.facts;
    if (is.session !== was.session || is.nonce !== was.nonce) changes.push({ kind: 'restarted', entry: after, before });
    if (is.bus !== was.bus || is.client !== was.client) changes.push({ kind: 'moved', entry: after, before });
    if (is.leaving !== was.leaving) changes.push({ kind: 'leaving', entry: after });
    if (effectiveMark(after) !== effectiveMark(before)) changes.push({ kind: 'marked', entry: after });
    if (compareLayouts(is.layout, was.layout) !== 0) changes.push(...this.layoutChange(after));
    return changes;
  }

  private layoutChange(e: Entry): GossipChange[] {
    if (compareLayouts(e.facts.layout, this.self.facts.layout) <= 0) return [];
    return [{ kind: 'layout', id: e.id, layout: e.facts.layout }];
  }

  // ------------------------------------------------------------------ history

  /** Everything known, with the seeds, for `node.db`. */
  history(): Buffer {
    const w = new ByteWriter(4096);
    w.u8(HISTORY_FORMAT);
    w.varint(this.seedList.length);
    for (const s of this.seedList) w.str(s);
    w.varint(this.known.size);
    for (const e of this.entries()) encodeEntry(w, e);
    return w.take();
  }

  /** Takes the history of an earlier session. Our own entry in it is older than this session and only gives its mark. */
  restore(bytes: Buffer): GossipChange[] {
    const r = new ByteReader(bytes);
    if (r.u8() !== HISTORY_FORMAT) throw new TruncatedError();
    const seeds = Array.from({ length: decodeCount(r) }, () => r.str());
    const entries = Array.from({ length: decodeCount(r) }, () => decodeEntry(r));
    if (!r.done) throw new TruncatedError();
    this.addSeeds(seeds);
    return entries.flatMap((e) => this.merge(e));
  }
}
