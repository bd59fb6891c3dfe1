/**
 * Which forwarded commands have been run, and what they replied (DESIGN section 5).
 *
 * A node that gets no answer to a command that it has forwarded asks another coordinator. The first one may have run it
 * all the same; its writes carry the command's name and reply, so whoever is asked next finds out from the replicas, and
 * gives that reply instead of running it twice. Names are kept for a while and then forgotten: a command is never begun
 * so long after it was sent (`server/forwarding`). Where nobody could be asked it has run twice, and `voids` says what
 * then.
 */

/** A name is kept for so long, in ms, unless a process sends more than MAX_SLOTS commands in that time. */
export const REMEMBER_MS = 15_000;
/** Slots for the commands of one process: at first, and at most. */
const FIRST_SLOTS = 1024;
const MAX_SLOTS = 262_144;
/** A process that has sent nothing for so long is forgotten, in ms. */
const FORGET_MS = 60_000;

export interface Done {
  /** Node that ran it. */
  by: string;
  reply: Buffer;
}

export const OK = Buffer.from('+OK\r\n', 'latin1');
/** Is buf[start, end) this reply? */
export function isOk(buf: Buffer, start: number, end: number): boolean {
  return end - start === OK.length && buf[start] === OK[0] && buf[start + 1] === OK[1] && buf[start + 2] === OK[2];
}

/** So many of them in a row, by their number. */
const MANY_OK = Array.from({ length: 17 }, (_, n) => Buffer.from('+OK\r\n'.repeat(n), 'latin1'));

/** A copy of replies, sharing the most usual ones. */
export function replyBytes(buf: Buffer, start: number, end: number): Buffer {
  const n = (end - start) / OK.length;
  if (n < MANY_OK.length && Number.isInteger(n)) {
    let at = start;
    while (at < end && buf[at] === OK[(at - start) % OK.length]) at++;
    if (at === end) return MANY_OK[n];
  }
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

  private readonly byTag = new Map<number, Slots>();
  private lastTag = -1;
  private lastSlots: Slots | undefined;
  private now = 0;

  /** @param tag of the process that sent it, @param id its number there */
  get(tag: number, id: number): Done | undefined {
    return this.byTag.get(tag)?.get(id);
  }

  /** What it replied does not hold any more. */
  drop(tag: number, id: number): void {
    this.byTag.get(tag)?.drop(id);
  }

  put(tag: number, id: number, done: Done): void {
    this.note(tag, id, done.by, done.reply);
  }

  /** @param by node that ran it, @param reply what it replied */
  note(tag: number, id: number, by: string, reply: Buffer): void {
    let slots = tag === this.lastTag ? this.lastSlots : this.byTag.get(tag);
    if (slots === undefined) {
      slots = new Slots();
      this.byTag.set(tag, slots);
    }
    this.lastTag = tag;
    this.lastSlots = slots;
    slots.put(id, by, reply, this.now);
  }

  sweep(now: number): void {
    this.now = now;
    this.lastTag = -1;
    for (const [tag, slots] of this.byTag) if (now - slots.used > FORGET_MS) this.byTag.delete(tag);
  }
}

/** The latest commands of one process, by number: numbers follow one another, so each has its place. */
class Slots {
  used = 0;
  private size = FIRST_SLOTS;
  private ids = new Float64Array(FIRST_SLOTS);
  private at = new Float64Array(FIRST_SLOTS);
  private by: string[] = new Array<string>(FIRST_SLOTS).fill('');
  private replies: Buffer[] = new Array<Buffer>(FIRST_SLOTS).fill(OK);

  get(id: number): Done | undefined {
    const i = id % this.size;
    return this.ids[i] === id ? { by: this.by[i], reply: this.replies[i] } : undefined;
  }

  drop(id: number): void {
    const i = id % this.size;
    if (this.ids[i] === id) this.ids[i] = 0;
  }

  put(id: number, by: string, reply: Buffer, now: number): void {
    this.used = now;
    let i = id % this.size;
    const held = this.ids[i];
    if (held !== 0 && held !== id && now - this.at[i] < REMEMBER_MS && this.size < MAX_SLOTS) {
      this.grow();
      i = id % this.size;
    }
    this.ids[i] = id;
    this.at[i] = now;
    this.by[i] = by;
    this.replies[i] = reply;
  }

  private grow(): void {
    const { ids, at, by, replies, size } = this;
    this.size = size * 2;
    this.ids = new Float64Array(this.size);
    this.at = new Float64Array(this.size);
    this.by = new Array<string>(this.size).fill('');
    this.replies = new Array<Buffer>(this.size).fill(OK);
    for (let k = 0; k < size; k++) {
      if (ids[k] === 0) continue;
      const i = ids[k] % this.size;
      this.ids[i] = ids[k];
      this.at[i] = at[k];
      this.by[i] = by[k];
      this.replies[i] = replies[k];
    }
  }
}
