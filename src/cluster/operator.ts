/**
 * What operators ask of single nodes, through whichever node they are connected to: what it holds of a key, and that it
 * wish to leave. Nothing here takes part in serving a command.
 */
import type { ByteReader, ByteWriter } from '../base/bytes.ts';
import { actorHex } from '../causality/actors.ts';
import type { KeyPlace } from '../store/keyspace.ts';
import type { Store } from '../store/store.ts';
import { liveSiblings } from '../types/register.ts';
import type { Hints } from './hints.ts';
import type { Membership } from './membership.ts';
import type { Peer, Peers } from './peers.ts';
import { ASK_HOLDING, ASK_LEAVE, type Rpc } from './rpc.ts';

/** How long a node has to answer, in ms. */
const ASK_MS = 1000;

/** What one node holds of a key. */
export interface Holding {
  /** The context as text: actor:(from,to] for each interval; '' when it has never heard of the key. */
  context: string;
  /** Equal hashes are equal contexts, and equal contexts are equal states. */
  contextHash: number;
  checksum: number;
  /** Type number (`types/kinds`); 0 when there is nothing to show. */
  type: number;
  siblings: number;
  entries: number;
  /** Ms since 1970; 0 for never. */
  deadline: number;
  bytes: number;
  /** Ids of owners that this node keeps a hint of the key for. */
  hintedFor: string[];
}

export class Operator {
  private readonly parts: OperatorParts;

  constructor(parts: OperatorParts) {
    this.parts = parts;
    parts.rpc.on(ASK_HOLDING, (_, r, w) => this.answerHolding(r, w));
    parts.rpc.on(ASK_LEAVE, () => parts.membership.leave());
  }

  /** What this node holds of a key. */
  async holding(place: KeyPlace): Promise<Holding> {
    const { store, hints } = this.parts;
    return holdingOf(store, place, hints.ownersOf(place.db.index, place.key));
  }

  /** What a peer holds of a key; rejects when it does not answer. */
  async ask(peer: Peer, place: KeyPlace): Promise<Holding> {
    const r = await this.parts.rpc.call(
      peer,
      ASK_HOLDING,
      (w) => {
        w.u8(place.db.index);
        w.str(place.key);
      },
      ASK_MS,
    );
    return decodeHolding(r);
  }

  private async answerHolding(r: ByteReader, w: ByteWriter): Promise<void> {
    const { store } = this.parts;
    const db = store.keys.databases[r.u8()];
    if (db === undefined) throw new Error('no such database');
    encodeHolding(w, await this.holding(store.placeOf(db, r.str())));
  }

  /** Has another node wish to leave; rejects when it does not answer. */
  async askToLeave(peer: Peer): Promise<void> {
    await this.parts.rpc.call(peer, ASK_LEAVE, () => {}, ASK_MS);
  }

  /** The peer with this id, or with an id that begins so; null when there is none, or more than one. */
  find(prefix: string): Peer | null {
    const { peers, membership } = this.parts;
    const ids = new Set([...peers.byId.keys(), ...membership.known().map((k) => k.id), ...membership.ring.members]);
    ids.delete(peers.self);
    const found = [...ids].filter((id) => prefix !== '' && id.startsWith(prefix));
    return found.length === 1 ? peers.get(found[0]) : null;
  }
}

/** @param hintedFor owners that the node keeps a hint of the key for */
export async function holdingOf(store: Store, place: KeyPlace, hintedFor: string[]): Promise<Holding> {
  const { keys } = store;
  const { db, key, slot } = place;
  while (!keys.isResident(db, key, slot)) await store.residency.load([place]);
  const o = keys.shard(db, slot).peek(key) ?? null;
  if (o === null)
    return {
      context: '',
      contextHash: 0,
      checksum: 0,
      type: 0,
      siblings: 0,
      entries: 0,
      deadline: 0,
      bytes: 0,
      hintedFor,
    };
  const context = o.context();
  const state = o.toState();
  const live = keys.isLive(o);
  return {
    context: context.actors.map((a, i) => `${actorHex(a)}:(${context.froms[i]},${context.tos[i]}]`).join(' '),
    contextHash: o.contextHash(),
    checksum: state.checksum(),
    type: live ? o.type : 0,
    siblings: live ? Math.max(1, liveSiblings(state, keys.now).length) : 0,
    entries: state.count,
    deadline: o.deadline,
    bytes: o.cost,
    hintedFor,
  };
}

export function encodeHolding(w: ByteWriter, h: Holding): void {
  w.str(h.context);
  w.u53(h.contextHash);
  w.u53(h.checksum);
  w.u8(h.type);
  w.varint(h.siblings);
  w.varint(h.entries);
  w.f64(h.deadline);
  w.varint(h.bytes);
  w.varint(h.hintedFor.length);
  for (const id of h.hintedFor) w.str(id);
}

export function decodeHolding(r: ByteReader): Holding {
  return {
    context: r.str(),
    contextHash: r.u53(),
    checksum: r.u53(),
    type: r.u8(),
    siblings: r.varint(),
    entries: r.varint(),
    deadline: r.f64(),
    bytes: r.varint(),
    hintedFor: Array.from({ length: r.varint() }, () => r.str()),
  };
}

export interface OperatorParts {
  store: Store;
  peers: Peers;
  rpc: Rpc;
  membership: Membership;
  hints: Hints;
}
