/**
 * A layout: who the members are and which of them owns each partition's token (paper 4.2 and 6.2, strategy 3: Q equal
 * partitions, each one token).
 *
 * A layout is a value. It is never changed, only followed by one of a higher version; every node that holds the same
 * layout works out the same preference lists without asking anybody. It says nothing about who is up: that is each
 * node's own opinion (paper 4.8.3).
 */
import { ByteReader, ByteWriter, TruncatedError } from '../base/bytes.ts';
import { hash52 } from '../base/hash.ts';
import { SLOTS } from './slots.ts';

/** Partitions of a cluster unless it was founded with another number (`cluster-partitions`). */
export const DEFAULT_PARTITIONS = 1024;
/** Most partitions: one a slot. */
export const MAX_PARTITIONS = SLOTS;
/** Most members of one layout. */
export const MAX_MEMBERS = 4096;
/** Largest weight. Weights are whole numbers; 0 is a member that holds no replicas (it still forwards and keeps hints). */
export const MAX_WEIGHT = 1_000_000;
/** Longest host, zone or address, in characters. */
export const MAX_MEMBER_FIELD_CHARS = 255;
/** Length of a node id in hex digits. */
export const NODE_ID_DIGITS = 40;

export interface Member {
  /** 40 lower-case hex digits. */
  readonly id: string;
  /** The machine: replicas go to distinct hosts first. */
  readonly host: string;
  /** The data centre, rack or power supply: then to distinct zones. Empty is a zone like any other. */
  readonly zone: string;
  /** Share of the tokens, in proportion to the others' weights. */
  readonly weight: number;
  /** Where the cluster bus listens, `host:port`. */
  readonly bus: string;
  /** Where clients connect, `host:port`. */
  readonly client: string;
}

export interface Layout {
  /** 1 for a cluster's first; each commit adds one. */
  readonly version: number;
  /** Q, a power of two, fixed for the cluster's life. */
  readonly partitions: number;
  /** Ordered by id, so that equal layouts have equal bytes. */
  readonly members: readonly Member[];
  /** For each partition the index of its token's owner in `members`. */
  readonly owners: readonly number[];
}

export type LayoutFault =
  | 'PARTITIONS' // not a power of two, or too many
  | 'MEMBER' // a member's field is malformed
  | 'DUPLICATE' // two members share an id
  | 'MEMBERS' // none at all, or too many
  | 'NO_WEIGHT' // nobody has a weight above 0
  | 'OWNERS'; // an owner is not a member

/** Thrown for a layout that cannot be. */
export class LayoutError extends Error {
  readonly code: LayoutFault;
  constructor(code: LayoutFault, message: string) {
    super(message);
    this.name = 'LayoutError';
    this.code = code;
  }
}

export function checkPartitions(q: number): void {
  if (!Number.isInteger(q) || q < 1 || q > MAX_PARTITIONS || (q & (q - 1)) !== 0)
    throw new LayoutError('PARTITIONS', `partitions must be a power of two up to ${MAX_PARTITIONS}, not ${q}`);
}

const ID = new RegExp(`^[0-9a-f]{${NODE_ID_DIGITS}}$`);

function checkMember(m: Member): void {
  if (!ID.test(m.id)) throw new LayoutError('MEMBER', `a node id is ${NODE_ID_DIGITS} hex digits, not '${m.id}'`);
  if (!Number.isInteger(m.weight) || m.weight < 0 || m.weight > MAX_WEIGHT)
    throw new LayoutError('MEMBER', `the weight of ${m.id} must be a whole number from 0 to ${MAX_WEIGHT}`);
  for (const field of [m.host, m.zone, m.bus, m.client])
    if (field.length > MAX_MEMBER_FIELD_CHARS)
      throw new LayoutError('MEMBER', `a field of ${m.id} is longer than ${MAX_MEMBER_FIELD_CHARS} characters`);
}

/** Checks members and gives them in canonical order. */
export function canonicalMembers(members: readonly Member[]): Member[] {
  if (members.length === 0) throw new LayoutError('MEMBERS', 'a layout needs a member');
  if (members.length > MAX_MEMBERS) throw new LayoutError('MEMBERS', `a layout has at most ${MAX_MEMBERS} members`);
  const sorted = [...members].sort((a, b) => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0));
  for (let i = 0; i < sorted.length; i++) {
    checkMember(sorted[i]);
    if (i > 0 && sorted[i].id === sorted[i - 1].id)
      throw new LayoutError('DUPLICATE', `two members have id ${sorted[i].id}`);
  }
  if (!sorted.some((m) => m.weight > 0)) throw new LayoutError('NO_WEIGHT', 'no member has a weight above 0');
  return sorted;
}

const LAYOUT_FORMAT = 1;

/** Canonical bytes: format, version, log2 of Q, the members in order of id, an owner's index for each partition. */
export function encodeLayout(w: ByteWriter, layout: Layout): void {
  w.u8(LAYOUT_FORMAT);
  w.varint(layout.version);
  w.u8(Math.log2(layout.partitions));
  w.varint(layout.members.length);
  for (const m of layout.members) {
    w.bytes(Buffer.from(m.id, 'hex'));
    w.str(m.host);
    w.str(m.zone);
    w.varint(m.weight);
    w.str(m.bus);
    w.str(m.client);
  }
  for (const owner of layout.owners) w.varint(owner);
}

/** Reads and checks a layout. Throws `TruncatedError` for bytes that end early, `LayoutError` for ones that cannot be. */
export function decodeLayout(r: ByteReader): Layout {
  if (r.u8() !== LAYOUT_FORMAT) throw new TruncatedError();
  const version = r.varint();
  const bits = r.u8();
  if (bits > Math.log2(MAX_PARTITIONS)) throw new LayoutError('PARTITIONS', `2^${bits} partitions are too many`);
  const partitions = 2 ** bits;
  const count = r.varint();
  if (count > MAX_MEMBERS) throw new LayoutError('MEMBERS', `a layout has at most ${MAX_MEMBERS} members`);
  const members: Member[] = [];
  for (let i = 0; i < count; i++) {
    const id = Buffer.from(r.rawStr(NODE_ID_DIGITS / 2), 'latin1').toString('hex');
    const host = r.str();
    const zone = r.str();
    const weight = r.varint();
    members.push({ id, host, zone, weight, bus: r.str(), client: r.str() });
  }
  const sorted = canonicalMembers(members);
  if (sorted.some((m, i) => m.id !== members[i].id)) throw new LayoutError('MEMBERS', 'members are out of order');
  const owners: number[] = [];
  for (let p = 0; p < partitions; p++) {
    const owner = r.varint();
    if (owner >= count) throw new LayoutError('OWNERS', `partition ${p} belongs to nobody`);
    owners.push(owner);
  }
  return { version, partitions, members, owners };
}

export function layoutBytes(layout: Layout): Buffer {
  const w = new ByteWriter(4096);
  encodeLayout(w, layout);
  return w.take();
}

export function layoutFromBytes(bytes: Buffer): Layout {
  const r = new ByteReader(bytes);
  const layout = decodeLayout(r);
  if (!r.done) throw new TruncatedError();
  return layout;
}

/** 52 bits over the canonical bytes: with the version, a layout's name in gossip and frames. */
export function layoutHash(layout: Layout): number {
  const w = new ByteWriter(4096);
  encodeLayout(w, layout);
  return hash52(w.latin1());
}

/** A layout's name: what gossip carries instead of the layout. */
export interface LayoutName {
  readonly version: number;
  readonly hash: number;
}

export function layoutName(layout: Layout): LayoutName {
  return { version: layout.version, hash: layoutHash(layout) };
}

/**
 * Which of two layouts holds: the higher version; of one version, committed at once at two places, the higher hash.
 * Everybody who hears of both chooses the same one, in whatever order they come. The loser is not merged in: whoever
 * committed it sees that it did not come to hold and plans again on top of the winner.
 *
 * Negative when `b` holds, positive when `a` does, 0 when they are the same.
 */
export function compareLayouts(a: LayoutName, b: LayoutName): number {
  return a.version - b.version || a.hash - b.hash;
}
