/**
 * Runs of a forwarded command that do not count.
 *
 * A node that gets no answer to a command that it has forwarded asks another one (`server/forwarding`), and when neither
 * can hear of the other both may run it. Only the node whose client it is knows which answer the client was given; so it,
 * and nobody else, says which run counts, and tells the others to undo theirs. Were that left to those who ran it, they
 * could undo what the client has been told, and has perhaps deleted or replaced since.
 *
 * What a peer is to undo is kept until the peer has said that it has been told, over as many links as that takes.
 */
import { breaks } from '../base/breaks.ts';
import { type ByteReader, ByteWriter } from '../base/bytes.ts';
import { VOID, VOIDED } from './messages.ts';
import type { Peer } from './peers.ts';
import type { Done } from './requests.ts';

/** Kept for one peer, at most; the oldest goes first. */
export const MAX_VOIDS = 100_000;
const FRAME_BYTES = 64 * 1024;

interface Void {
  tag: number;
  id: number;
  done: Done;
}

export class Voids {
  private readonly byPeer = new Map<string, Map<string, Void>>();
  private readonly w = new ByteWriter(256);
  private readonly answer = new ByteWriter(256);
  stats = { said: 0, taken: 0 };

  /** Not yet known to have been heard. */
  get outstanding(): number {
    let n = 0;
    for (const list of this.byPeer.values()) n += list.size;
    return n;
  }

  /**
   * This peer may have run a command of which another run counts.
   * @param done who ran it, and the reply that the client was given
   */
  say(peer: Peer, tag: number, id: number, done: Done): void {
    if (breaks.neverVoids) return;
    let list = this.byPeer.get(peer.id);
    if (list === undefined) {
      list = new Map();
      this.byPeer.set(peer.id, list);
    }
    const one = { tag, id, done };
    list.set(`${tag}/${id}`, one);
    if (list.size > MAX_VOIDS) list.delete(list.keys().next().value!);
    this.stats.said++;
    this.send(peer, [one]);
  }

  /** The peer's link is up: what it may not have heard is said again. */
  linkUp(peer: Peer): void {
    const list = this.byPeer.get(peer.id);
    if (list !== undefined) this.send(peer, [...list.values()]);
  }

  /** The node is a member no longer. */
  forget(peer: string): void {
    this.byPeer.delete(peer);
  }

  private send(peer: Peer, list: Void[]): void {
    const { w } = this;
    w.reset();
    for (const { tag, id, done } of list) {
      if (w.pos > FRAME_BYTES) {
        peer.link?.send(VOID, w.buf, 0, w.pos);
        w.reset();
      }
      w.u32(tag);
      w.u53(id);
      w.str(done.by);
      w.varint(done.reply.length);
      w.bytes(done.reply);
    }
    peer.link?.send(VOID, w.buf, 0, w.pos);
  }

  /** The peer has been told. */
  heard(peer: Peer, r: ByteReader): void {
    const list = this.byPeer.get(peer.id);
    while (!r.done) {
      // read in any case: it may be heard twice, or of a peer that is forgotten
      const name = `${r.u32()}/${r.u53()}`;
      list?.delete(name);
    }
    if (list?.size === 0) this.byPeer.delete(peer.id);
  }

  /** Takes a VOID frame, and says so. */
  take(peer: Peer, r: ByteReader, undo: (tag: number, id: number, done: Done) => void): void {
    // an undo may itself have to tell somebody: not with the same writer
    const w = this.answer;
    w.reset();
    while (!r.done) {
      const tag = r.u32();
      const id = r.u53();
      const by = r.str();
      undo(tag, id, { by, reply: Buffer.from(r.rawStr(r.varint()), 'latin1') });
      w.u32(tag);
      w.u53(id);
      this.stats.taken++;
    }
    peer.link?.send(VOIDED, w.buf, 0, w.pos);
  }
}
