/**
 * Members that have been away for too long (DESIGN section 4, *Reaping*): for how long, and who is to be expelled.
 *
 * The traces of deletes are kept until every member has promised that it holds nothing which could bring back what was
 * deleted. One that is away promises nothing, so they pile up; after `tombstone-grace` the others go on without it, and
 * what its directory holds is set aside. That can't be taken back, so everything here errs towards waiting:
 *
 * - A member is *seen* when anything comes from it, or when gossip brings a heartbeat of it that is news: then others see it.
 * - Time counts only while this node sees more than half of the members. Fewer, and it may be this node that is cut off.
 *   Two halves expel nobody, and of two nodes neither expels the other. Time in which this process stood still doesn't
 *   count either.
 * - One node decides: of the members that it takes for well it has the lowest id. Were two nodes to decide at once, they
 *   would mark the same member and claim the same layout.
 * - At least N members remain. With fewer the new layout would give up a copy of everything, and no longer show that one
 *   is missing; an operator brings another node instead.
 * - Of each partition that the member serves, N - W + 1 of those who serve it are well: any W nodes that have acknowledged
 *   a write have one of these among them, so nothing acknowledged is set aside, and new homes can fetch everything.
 * - One after the other: while partitions move that can arrive, the next one has to wait.
 */
import { type ByteReader, ByteWriter } from '../base/bytes.ts';
import { fewestWithAll } from './ring.ts';

/** Time between two looks that counts, at most, in ms: what is beyond is a time in which nobody looked. */
export const MAX_LOOK_MS = 3000;

/** What gossip says of a node changes with each of its heartbeats. */
export interface Pulse {
  readonly session: number;
  readonly nonce: number;
  readonly heartbeat: number;
}

/** A member as this node sees it at one look. */
export interface Sighting {
  readonly id: string;
  readonly well: boolean;
  /** When something came from it last, in monotonic ms; null for never. */
  readonly heardAt: number | null;
  /** What gossip has of it; null for nothing. */
  readonly pulse: Pulse | null;
}

interface Absence {
  ms: number;
  pulse: Pulse | null;
}

const FORMAT = 1;
const MAX_ABSENCES = 65_536;

/** Does `now` tell of a sign of life that `known` does not? After a restart gossip may know less than was written down. */
export function isNews(now: Pulse | null, known: Pulse | null): boolean {
  if (now === null) return false;
  if (known === null) return true;
  return (now.session - known.session || now.nonce - known.nonce || now.heartbeat - known.heartbeat) > 0;
}

/** More than half of them are well. */
export function seesMajority(members: readonly Sighting[]): boolean {
  return 2 * members.filter((m) => m.well).length > members.length;
}

export class Absences {
  private readonly byId = new Map<string, Absence>();
  private lastLook: number | null = null;

  get size(): number {
    return this.byId.size;
  }

  /** How long a member has been away, as far as it counts, in ms. */
  awayMs(id: string): number {
    return this.byId.get(id)?.ms ?? 0;
  }

  /** @param members all members; this node among them, and well */
  look(now: number, members: readonly Sighting[]): void {
    const last = this.lastLook;
    this.lastLook = now;
    const passed = last === null || !seesMajority(members) ? 0 : Math.min(now - last, MAX_LOOK_MS);
    const here = new Set(members.map((m) => m.id));
    for (const id of this.byId.keys()) if (!here.has(id)) this.byId.delete(id);
    for (const m of members) {
      const heard = m.heardAt !== null && last !== null && m.heardAt > last;
      const before = this.byId.get(m.id);
      if (m.well || heard) this.byId.delete(m.id);
      else if (before === undefined || isNews(m.pulse, before.pulse)) this.byId.set(m.id, { ms: 0, pulse: m.pulse });
      else before.ms += passed;
    }
  }

  /** What a restart must not forget. */
  bytes(): Buffer {
    const w = new ByteWriter(256);
    w.u8(FORMAT);
    w.varint(this.byId.size);
    for (const [id, { ms, pulse }] of this.byId) {
      w.str(id);
      w.f64(ms);
      w.u8(pulse === null ? 0 : 1);
      if (pulse === null) continue;
      w.varint(pulse.session);
      w.u32(pulse.nonce);
      w.varint(pulse.heartbeat);
    }
    return w.take();
  }

  /** Goes on counting where an earlier process stopped. A member that has been seen since begins anew at the next look. */
  restore(r: ByteReader): void {
    if (r.u8() !== FORMAT) return;
    const count = Math.min(r.varint(), MAX_ABSENCES);
    for (let i = 0; i < count; i++) {
      const id = r.str();
      const ms = r.f64();
      const pulse = r.u8() === 0 ? null : { session: r.varint(), nonce: r.u32(), heartbeat: r.varint() };
      this.byId.set(id, { ms, pulse });
    }
  }
}

/** What one node knows when it asks itself whom to expel. */
export interface Situation {
  readonly self: string;
  readonly members: readonly Sighting[];
  readonly awayMs: (id: string) => number;
  /** Ms; 0 for never. */
  readonly graceMs: number;
  readonly n: number;
  readonly w: number;
  readonly partitions: number;
  /** Who serves a partition. */
  readonly homes: (p: number) => readonly string[];
  /** New homes of a partition that don't serve it yet; none when it does not move. */
  readonly gaining: (p: number) => readonly string[];
}

export type Verdict =
  | { expel: string }
  /** Its time is over, and still it must stay, for this reason. */
  | { keep: string; why: string };

/** Who is to be expelled now, or has to be kept though its time is over; null when there is nothing to say. */
export function judge(s: Situation): Verdict | null {
  if (s.graceMs === 0 || !seesMajority(s.members)) return null;
  const well = new Set(s.members.filter((m) => m.well).map((m) => m.id));
  if (!well.has(s.self) || [...well].some((id) => id < s.self)) return null;
  const overdue = s.members
    .map((m) => m.id)
    .filter((id) => !well.has(id) && s.awayMs(id) >= s.graceMs)
    .sort();
  if (overdue.length === 0) return null;
  for (let p = 0; p < s.partitions; p++) {
    const gaining = s.gaining(p);
    if (gaining.length > 0 && gaining.every((id) => well.has(id))) return null;
  }
  if (s.members.length <= s.n)
    return { keep: overdue[0], why: `there would be fewer than ${s.n} members, and so fewer copies of everything` };
  for (const id of overdue) if (mayGo(s, id, well)) return { expel: id };
  return {
    keep: overdue[0],
    why: 'too few of those who share its partitions are up: it may hold the only copy of a write',
  };
}

function mayGo(s: Situation, id: string, well: ReadonlySet<string>): boolean {
  for (let p = 0; p < s.partitions; p++) {
    const homes = s.homes(p);
    if (!homes.includes(id)) continue;
    if (homes.filter((x) => well.has(x)).length < fewestWithAll(homes.length, s.w)) return false;
  }
  return true;
}
