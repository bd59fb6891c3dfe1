/**
 * Which forwarded commands have been run, and what they replied (DESIGN section 5).
 *
 * A node that gets no answer to a command that it has forwarded asks another coordinator. The first one may have run it
 * all the same; its writes carry the command's name and reply, so whoever is asked next finds out from the replicas, and
 * gives that reply instead of running it twice. Names are kept for two periods and then forgotten: a command is never
 * begun so long after it was sent (`server/router`).
 */

/** A name is kept for at least so long, in ms. */
export const REMEMBER_MS = 15_000;

export interface Done {
  /** Node that ran it. */
  by: string;
  reply: Buffer;
}

const OK = Buffer.from('+OK\r\n', 'latin1');

/** The reply, sharing the most usual one. */
export function replyBytes(buf: Buffer, start: number, end: number): Buffer {
  if (end - start === OK.length && buf[start] === 43 && buf[start + 1] === 79 && buf[start + 2] === 75) return OK;
  return Buffer.from(buf.subarray(start, end));
}

/** A forwarded command and what it replied. */
export interface Ran {
  tag: number;
  id: number;
  reply: Buffer;
}

/** Names kept for one peer that is out of reach, at most. */
const MAX_MISSED = 20_000;

export class Requests {
  /** What was run here, by peers that have not heard of it. */
  private readonly missed = new Map<string, Ran[]>();

  /** A peer has missed a write that came of this command. */
  miss(peer: string, ran: Ran): void {
    const list = this.missed.get(peer);
    if (list === undefined) this.missed.set(peer, [ran]);
    else if (list.length < MAX_MISSED) list.push(ran);
  }

  /** What a peer that is back has to hear. */
  takeMissed(peer: string): Ran[] {
    const list = this.missed.get(peer) ?? [];
    this.missed.delete(peer);
    return list;
  }

  private current = new Map<number, Map<number, Done>>();
  private previous = new Map<number, Map<number, Done>>();
  private turned = 0;

  /** @param tag of the process that sent it, @param id its number there */
  get(tag: number, id: number): Done | undefined {
    return this.current.get(tag)?.get(id) ?? this.previous.get(tag)?.get(id);
  }

  put(tag: number, id: number, done: Done): void {
    let list = this.current.get(tag);
    if (list === undefined) {
      list = new Map();
      this.current.set(tag, list);
    }
    list.set(id, done);
  }

  sweep(now: number): void {
    if (now - this.turned < REMEMBER_MS) return;
    this.turned = now;
    this.previous = this.current;
    this.current = new Map();
  }

  get size(): number {
    let n = 0;
    for (const m of [this.current, this.previous]) for (const list of m.values()) n += list.size;
    return n;
  }
}
