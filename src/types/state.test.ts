/**
 * The laws of `types/state`, over random histories with loss, duplication, reordering, crash, restart and hand-over:
 * same context, same state; join is idempotent, commutative and associative; nothing lost, nothing undead.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ByteReader, ByteWriter } from '../base/bytes.ts';
import { Replica } from './replica.ts';
import {
  decodeEvent,
  decodeState,
  encodeEvent,
  encodeState,
  fingerprint,
  type KeyEvent,
  type KeyState,
} from './state.ts';

const FIELDS = ['sf', 'sg', 'sh'];
const NAMES = ['A', 'B', 'C', 'D'];

type Step =
  | { kind: 'write' | 'remove' | 'clear' | 'overwrite'; who: number; fields: number; lost: number; late: number }
  | { kind: 'stale'; who: number; snapshot: number; lost: number; late: number }
  | { kind: 'deliver'; which: number; again: boolean }
  | { kind: 'join'; who: number; other: number }
  | { kind: 'snapshot' | 'crash' | 'handover'; who: number };

const who = fc.integer({ min: 0, max: 3 });
const bits = fc.integer({ min: 0, max: 15 });
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constantFrom('write' as const, 'remove' as const, 'clear' as const, 'overwrite' as const),
      who,
      fields: fc.integer({ min: 0, max: 7 }),
      lost: bits,
      late: bits,
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('stale' as const),
      who,
      snapshot: fc.integer({ min: 0, max: 3 }),
      lost: bits,
      late: bits,
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constant('deliver' as const), which: fc.nat(1000), again: fc.boolean() }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('join' as const), who, other: who }) },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constantFrom('snapshot' as const, 'crash' as const, 'handover' as const), who }),
  },
);

const name = (field: string, actor: number, hlc: number) => `${field}@${actor}:${hlc}`;
const live = (s: KeyState) =>
  [...s.entries()]
    .map((e) => name(e.field, e.actor, e.hlc))
    .sort()
    .join(' ');

/** Through bytes and back, as every event travels. */
function wire(event: KeyEvent): KeyEvent {
  const w = new ByteWriter();
  encodeEvent(w, event);
  return decodeEvent(new ByteReader(w.take()));
}

class History {
  readonly replicas = NAMES.map((n) => new Replica(n));
  private readonly snapshots = this.replicas.map((r) => r.state.clone());
  private readonly flight: { to: Replica; event: KeyEvent }[] = [];
  readonly events: KeyEvent[] = [];

  play(steps: Step[]): void {
    for (const s of steps) {
      this.step(s);
      this.check();
    }
  }

  private step(s: Step): void {
    const r = this.replicas[(s as { who?: number }).who ?? 0];
    switch (s.kind) {
      case 'write':
      case 'remove':
      case 'clear':
      case 'overwrite': {
        const picked = FIELDS.filter((_, i) => s.fields & (1 << i));
        const fields =
          s.kind === 'write' ? (picked.length > 0 ? picked : ['sf']) : s.kind === 'overwrite' ? ['sf'] : [];
        const whole = s.kind === 'clear' || s.kind === 'overwrite';
        this.spread(
          r,
          r.write(fields, `v${this.events.length}`, { clear: whole, remove: s.kind === 'remove' ? picked : [] }),
          s,
        );
        return;
      }
      case 'stale':
        // a client writes with what it saw some time ago, somewhere else
        this.spread(r, r.write(['sf'], `v${this.events.length}`, { clear: true, seen: this.snapshots[s.snapshot] }), s);
        return;
      case 'deliver': {
        if (this.flight.length === 0) return;
        const i = s.which % this.flight.length;
        this.flight[i].to.apply(wire(this.flight[i].event));
        if (!s.again) this.flight.splice(i, 1);
        return;
      }
      case 'join':
        r.join(this.replicas[s.other]);
        return;
      case 'snapshot':
        this.snapshots[s.who] = r.state.clone();
        return;
      case 'crash':
        if (this.mayLose(r, this.snapshots[s.who])) r.restart(this.snapshots[s.who]);
        return;
      case 'handover': {
        const other = this.replicas[(s.who + 1) % 4];
        other.join(r);
        r.forget();
        this.snapshots[s.who] = r.state.clone();
      }
    }
  }

  /** To each other replica at once, late, or never; at least one has it besides its maker. */
  private spread(maker: Replica, event: KeyEvent, s: { lost: number; late: number }): void {
    let copies = 0;
    this.replicas.forEach((other, i) => {
      if (other === maker) return;
      if (s.lost & (1 << i)) {
        if (s.late & (1 << i)) this.flight.push({ to: other, event });
        return;
      }
      other.apply(wire(event));
      copies++;
    });
    if (copies === 0) this.replicas[(this.replicas.indexOf(maker) + 1) % 4].apply(wire(event));
    this.events.push(event);
  }

  /** A crash may not take the last copy of an event. */
  private mayLose(r: Replica, after: KeyState): boolean {
    return this.events.every(
      (e) =>
        after.context.has(e.actor, e.to) ||
        !r.state.context.has(e.actor, e.to) ||
        this.replicas.some((o) => o !== r && o.state.context.has(e.actor, e.to)),
    );
  }

  /** What quorum reads and Merkle trees stand on. */
  private check(): void {
    for (const x of this.replicas) {
      for (const y of this.replicas) {
        if (x.state.context.equals(y.state.context))
          assert.equal(live(x.state), live(y.state), 'same context, other state');
      }
    }
  }

  heal(): void {
    for (let round = 0; round < 4; round++) for (const x of this.replicas) for (const y of this.replicas) x.join(y);
  }

  /** The oracle: an entry is live unless an event that saw it removed it. */
  expected(): string {
    const removed = new Set<string>();
    for (const e of this.events) {
      for (const r of [...e.removes, ...e.coversGone]) removed.add(name(r.field, r.actor, r.hlc));
      if (e.covers !== null) {
        for (const o of this.events)
          if (e.covers.has(o.actor, o.to)) for (const a of o.adds) removed.add(name(a.field, o.actor, o.to));
      }
    }
    return this.events
      .flatMap((e) => e.adds.map((a) => name(a.field, e.actor, e.to)))
      .filter((n) => !removed.has(n))
      .sort()
      .join(' ');
  }
}

test('same context, same state; nothing lost, nothing undead', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60, size: 'max' }), (steps) => {
      const h = new History();
      h.play(steps);
      h.heal();
      const prints = new Set(h.replicas.map((r) => fingerprint(r.state)));
      assert.equal(prints.size, 1, 'replicas differ after healing');
      assert.equal(live(h.replicas[0].state), h.expected(), 'lost or undead');
    }),
    { numRuns: 1500 },
  );
});

test('join is idempotent, commutative and associative, and keeps a running sum', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40, size: 'max' }), (steps) => {
      const h = new History();
      h.play(steps);
      const [a, b, c] = h.replicas.map((r) => r.state);
      const join = (x: KeyState, y: KeyState) => {
        const s = x.clone();
        s.join(y.clone());
        return s;
      };
      assert.equal(fingerprint(join(a, a)), fingerprint(a));
      assert.equal(fingerprint(join(a, b)), fingerprint(join(b, a)));
      assert.equal(fingerprint(join(join(a, b), c)), fingerprint(join(a, join(b, c))));
      for (const s of [a, b, c]) assert.equal(s.checksum(), s.clone().checksum(), 'the running sum went astray');
    }),
    { numRuns: 700 },
  );
});

test('states survive their encoding, and a flipped bit is noticed', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30, size: 'max' }), fc.nat(), (steps, where) => {
      const h = new History();
      h.play(steps);
      const w = new ByteWriter();
      encodeState(w, h.replicas[0].state, false);
      const bytes = w.take();
      assert.equal(fingerprint(decodeState(new ByteReader(bytes))), fingerprint(h.replicas[0].state));
      if (h.replicas[0].state.count === 0) return;
      const damaged = Buffer.from(bytes);
      damaged[where % damaged.length] ^= 1;
      let noticed = false;
      try {
        noticed = fingerprint(decodeState(new ByteReader(damaged))) !== fingerprint(h.replicas[0].state);
      } catch {
        noticed = true;
      }
      assert.ok(noticed);
    }),
    { numRuns: 500 },
  );
});

test('a crash that lost the last events leaves a gap that is seen', () => {
  const a = new Replica('A');
  const b = new Replica('B');
  b.apply(a.write(['sf'], '1'));
  const snapshot = a.state.clone();
  const lost = a.write(['sf'], '2');
  a.restart(snapshot);
  b.apply(a.write(['sg'], '3'));
  assert.equal(b.state.context.has(lost.actor, lost.to), false);
});
