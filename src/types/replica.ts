/**
 * One key on one replica, for tests and the simulator: makes events by the rules of DESIGN section 3, applies them in
 * whatever order they come, joins, crashes back to a snapshot. The states are the real ones; only the making of
 * events is simplified to fields that are given.
 */
import { actorNumber } from '../causality/actors.ts';
import type { Context } from '../causality/context.ts';
import { type EntryRef, type KeyEvent, KeyState } from './state.ts';

export class Replica {
  readonly actor: number;
  state = new KeyState();
  /** Highest stamp given out or seen. */
  clock = 0;
  /** Own stamps at or below this were made before the last break. */
  chainStart = 0;

  constructor(name: string) {
    this.actor = actorNumber(name.padEnd(8, '.'));
  }

  /** An event that adds `value` to `fields`, in place of what this replica sees there; or clears the whole key first. */
  write(
    fields: string[],
    value: string,
    options: { clear?: boolean; remove?: string[]; seen?: KeyState } = {},
  ): KeyEvent {
    const { clear = false, remove = [], seen } = options;
    const to = this.clock + 1;
    const previous = this.state.context.max(this.actor);
    const removes: EntryRef[] = [];
    let covers: Context | null = null;
    let coversGone: EntryRef[] = [];
    if (clear) {
      const view = seen ?? this.state;
      covers = view.context.clone();
      coversGone = view.goneList();
    } else {
      for (const e of this.state.entries()) {
        if (fields.includes(e.field) || remove.includes(e.field))
          removes.push({ field: e.field, actor: e.actor, hlc: e.hlc });
      }
    }
    const event: KeyEvent = {
      actor: this.actor,
      from: previous > this.chainStart ? previous : to - 1,
      to,
      covers: covers !== null && covers.size > 0 ? covers : null,
      coversGone,
      removes,
      adds: fields.map((field) => ({ field, data: value, num: 0, aux: '' })),
    };
    this.apply(event);
    return event;
  }

  apply(event: KeyEvent): void {
    this.clock = Math.max(this.clock, event.to);
    this.state.apply(event);
  }

  join(other: Replica): void {
    this.clock = Math.max(this.clock, other.clock);
    this.state.join(other.state.clone());
  }

  /** Loses what came after the snapshot; the clock's high-water mark is leased, so it never goes back. */
  restart(snapshot: KeyState): void {
    this.state = snapshot.clone();
    this.chainStart = this.clock;
  }

  /** Gives its copy up. */
  forget(): void {
    this.state = new KeyState();
    this.chainStart = this.clock;
  }
}
