/**
 * Questions to one node, and their answers: everything that is no hot path. A question has a time in which it must be
 * answered; a broken link ends it at once.
 */
import { type ByteReader, ByteWriter } from '../base/bytes.ts';
import type { Clock } from '../ports/clock.ts';
import { ANSWER, CALL } from './messages.ts';
import type { Peer, Peers } from './peers.ts';

/** What can be asked for. */
export const ASK_JOIN = 1;
export const ASK_ROOTS = 2;
export const ASK_TRANSFER = 3;
/** Live keys of the partitions that a node coordinates, from a place on. */
export const ASK_SCAN = 4;
export const ASK_COUNT = 5;
export const ASK_FLUSH = 6;
/** What a node holds of one key, and that it is to leave (`operator`). */
export const ASK_HOLDING = 7;
export const ASK_LEAVE = 8;

/** Reaping: may this partition's tombstones go, and that they do. */
export const ASK_PROMISE = 9;
export const ASK_REAP = 10;

/** Which of these parts of partitions, and which of these keys, does a node hold on disk? (`strays`) */
export const ASK_PARTS_HELD = 20;
export const ASK_KEYS_HELD = 21;
/** The last stamp that a run of a forwarded command has written with. */
export const ASK_RUN = 22;

const OK = 0;
const REFUSED = 1;
/** What a version that does not know a question answers. */
const UNKNOWN_QUESTION = 'unknown question';

export class CallError extends Error {
  /** The peer said no, as opposed to saying nothing. */
  readonly refused: boolean;
  constructor(message: string, refused: boolean) {
    super(message);
    this.name = 'CallError';
    this.refused = refused;
  }

  /** The peer's version does not know the question. */
  get isUnknown(): boolean {
    return this.refused && this.message === UNKNOWN_QUESTION;
  }
}

export type Answerer = (peer: Peer, r: ByteReader, w: ByteWriter) => Promise<void> | void;

interface Waiting {
  peer: Peer;
  /** On the listening clock. */
  until: number;
  resolve: (r: ByteReader) => void;
  reject: (e: CallError) => void;
}

export class Rpc {
  private readonly waiting = new Map<number, Waiting>();
  private readonly answerers = new Map<number, Answerer>();
  private readonly w = new ByteWriter(1024);
  private lastId = 0;
  private readonly clock: Clock;
  private readonly peers: Peers;

  constructor(peers: Peers, clock: Clock) {
    this.peers = peers;
    this.clock = clock;
  }

  on(what: number, answer: Answerer): void {
    this.answerers.set(what, answer);
  }

  /** The answer's reader is over bytes of its own. */
  call(peer: Peer, what: number, fill: (w: ByteWriter) => void, timeoutMs: number): Promise<ByteReader> {
    return new Promise((resolve, reject) => {
      const id = ++this.lastId;
      const { w } = this;
      w.reset();
      w.u53(id);
      w.u8(what);
      fill(w);
      if (peer.link === null || !peer.link.send(CALL, w.buf, 0, w.pos)) {
        reject(new CallError('the node can not be reached', false));
        return;
      }
      this.waiting.set(id, { peer, until: this.peers.listened(this.clock.monotonic()) + timeoutMs, resolve, reject });
    });
  }

  async take(peer: Peer, r: ByteReader): Promise<void> {
    const id = r.u53();
    const what = r.u8();
    const w = new ByteWriter(256);
    w.u53(id);
    w.u8(OK);
    try {
      const answerer = this.answerers.get(what);
      if (answerer === undefined) throw new CallError(UNKNOWN_QUESTION, true);
      await answerer(peer, r, w);
    } catch (error) {
      w.reset();
      w.u53(id);
      w.u8(REFUSED);
      w.str(error instanceof Error ? error.message : String((error as { message?: string }).message ?? error));
    }
    peer.link?.send(ANSWER, w.buf, 0, w.pos);
  }

  taken(peer: Peer, r: ByteReader): void {
    const id = r.u53();
    const x = this.waiting.get(id);
    this.peers.answered(peer, this.clock.monotonic(), null);
    if (x === undefined || x.peer !== peer) return;
    this.waiting.delete(id);
    if (r.u8() === OK) x.resolve(r);
    else x.reject(new CallError(r.str(), true));
  }

  lost(peer: Peer): void {
    for (const [id, x] of [...this.waiting]) {
      if (x.peer !== peer) continue;
      this.waiting.delete(id);
      x.reject(new CallError('the link broke', false));
    }
  }

  sweep(now: number): void {
    for (const [id, x] of [...this.waiting]) {
      if (this.peers.listened(now) < x.until) continue;
      this.waiting.delete(id);
      x.reject(new CallError('no answer in time', false));
    }
  }
}
