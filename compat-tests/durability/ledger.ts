/**
 * What a load was told: every write with what it wrote and when it was acknowledged, so that after a crash it can be
 * said which must be there, which may be, and what no key may ever show.
 */
import assert from 'node:assert/strict';
import { parseReply, textOf } from '../lib/reply.ts';
import { Pipeline, sendAll } from './pipeline.ts';

const SIBLINGS_PER_KEY = 20;
const DEPTH = 40;

/** The value of a key that is written once: recognisable, and of varying length. */
export function contentOf(key: string): string {
  const n = Number(/\d+$/.exec(key)?.[0] ?? 0);
  return `<${key}>${'.'.repeat((n * 7) % 150)}`;
}

interface Range {
  /** Least and most that may be found. */
  least: number;
  most: number;
}

export class Ledger {
  /** Keys written once, and when each was acknowledged (Infinity: not). */
  readonly keys = new Map<string, number>();
  /** Per counter, times of acks since the last check. */
  private readonly counters = new Map<string, { known: Range; acks: number[]; sent: number }>();
  /** Keys that are overwritten with 1, 2, 3 ...: times of acks by number. */
  private readonly rising = new Map<string, { known: Range; acks: number[]; sent: number }>();
  /** Values of siblings, and when each was acknowledged. */
  private readonly siblings = new Map<string, Map<string, number>>();
  /** The oldest acknowledgement that was lost had this age in ms when the server died. */
  oldestLostMs = 0;
  private serial = 0;

  get acknowledged(): number {
    return [...this.keys.values()].filter((at) => at < Infinity).length;
  }

  /**
   * Writes on one connection until it breaks or `running` says no, resting for `restMs` after every few writes.
   * Replies that are errors stop the test.
   */
  async load(port: number, name: string, running: () => boolean, restMs = 0): Promise<void> {
    const client = await Pipeline.connect(port);
    const tally = (map: typeof this.counters, key: string) => {
      let t = map.get(key);
      if (t === undefined) map.set(key, (t = { known: { least: 0, most: 0 }, acks: [], sent: 0 }));
      return t;
    };
    const counter = tally(this.counters, `counter:${name}`);
    const rising = tally(this.rising, `rising:${name}`);
    while (running() && !client.closed) {
      await client.room(DEPTH);
      const n = this.serial++;
      if (restMs > 0 && n % DEPTH === 0) await new Promise((resolve) => setTimeout(resolve, restMs));
      if (n % 10 === 3) {
        counter.sent++;
        client.send(['INCR', `counter:${name}`], (reply) => {
          if (reply === null) return;
          assert.equal(reply[0], ':', reply);
          counter.acks.push(performance.now());
        });
      } else if (n % 10 === 6) {
        const value = rising.known.most + ++rising.sent;
        client.send(['SET', `rising:${name}`, String(value)], (reply) => {
          if (reply === null) return;
          assert.equal(reply, '+OK\r\n');
          rising.acks[value - rising.known.most - 1] = performance.now();
        });
      } else if (n % 10 === 9) {
        const key = `siblings:${Math.floor(n / 10 / SIBLINGS_PER_KEY)}`;
        const value = `sibling ${n}`;
        let known = this.siblings.get(key);
        if (known === undefined) this.siblings.set(key, (known = new Map()));
        known.set(value, Infinity);
        client.send(['DSET', key, value], (reply) => {
          if (reply === null) return;
          assert.equal(reply[0], '$', reply);
          known.set(value, performance.now());
        });
      } else {
        const key = `key:${name}:${n}`;
        this.keys.set(key, Infinity);
        client.send(['SET', key, contentOf(key)], (reply) => {
          if (reply === null) return;
          assert.equal(reply, '+OK\r\n');
          this.keys.set(key, performance.now());
        });
      }
    }
    await client.drained();
    client.close();
  }

  /**
   * Holds a restarted server against the ledger: acks up to `cutoff` must be there. What is found counts as
   * acknowledged from then on: it was seen.
   */
  async check(port: number, died: number, cutoff: number): Promise<void> {
    const client = await Pipeline.connect(port);
    const missing: string[] = [];
    const lost = (what: string, acknowledged: number) => {
      if (acknowledged === Infinity) return;
      this.oldestLostMs = Math.max(this.oldestLostMs, died - acknowledged);
      if (acknowledged <= cutoff) missing.push(`${what}, acknowledged ${(died - acknowledged).toFixed(1)} ms before`);
    };
    await sendAll(
      port,
      [...this.keys],
      ([key]) => ['GET', key],
      ([key, acknowledged], value) => {
        if (value === null) {
          lost(key, acknowledged);
          this.keys.delete(key);
          return;
        }
        assert.equal(value, contentOf(key), `a wrong value of ${key}`);
        this.keys.set(key, Math.min(acknowledged, died));
      },
    );
    for (const [key, t] of this.counters) {
      const found = Number((await client.call('GET', key)).split('\r\n')[1] ?? 0) || 0;
      this.settle(key, t, found, t.acks, lost);
    }
    for (const [key, t] of this.rising) {
      const found = Number((await client.call('GET', key)).split('\r\n')[1] ?? 0) || 0;
      this.settle(key, t, found, t.acks, lost);
    }
    await sendAll(
      port,
      [...this.siblings],
      ([key]) => ['DGET', key],
      ([key, known], reply) => {
        const parsed = parseReply(reply!);
        assert.ok('items' in parsed && parsed.items?.length === 2, reply!);
        const list = parsed.items[1];
        const found = new Set('items' in list ? (list.items ?? []).map(textOf) : []);
        for (const value of found) assert.ok(known.has(value), `${key} shows ${value}, which was never written`);
        for (const [value, acknowledged] of known) {
          if (found.has(value)) known.set(value, Math.min(acknowledged, died));
          else {
            lost(`${key} ${value}`, acknowledged);
            known.delete(value);
          }
        }
      },
    );
    client.close();
    assert.equal(
      missing.length,
      0,
      `${missing.length} acknowledged writes are gone:\n${missing.slice(0, 10).join('\n')}`,
    );
  }

  private settle(
    key: string,
    t: { known: Range; acks: number[]; sent: number },
    found: number,
    acks: number[],
    lost: (what: string, acknowledged: number) => void,
  ): void {
    assert.ok(found <= t.known.most + t.sent, `${key} is ${found}, more than was ever sent`);
    if (found < t.known.least) lost(`${key} ${found} of ${t.known.least}`, -Infinity);
    for (let i = Math.max(0, found - t.known.least); i < acks.length; i++) {
      if (acks[i] !== undefined) lost(`${key} ${t.known.least + i + 1} (is ${found})`, acks[i]);
    }
    t.known = { least: found, most: found };
    t.acks = [];
    t.sent = 0;
  }
}
