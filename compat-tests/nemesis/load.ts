/**
 * Clients of every node, on several connections each, some with pipelines: they write everything that the ledger can
 * judge. They can be held while the cluster is looked at, and follow nodes that come and go.
 */
import type { Redis } from 'ioredis';
import { sleep } from '../durability/server.ts';
import { Prng } from '../lib/prng.ts';
import { connectTo, type Member, reasonOf, usable } from './cluster.ts';
import { itemsOf, type Ledger, type Single } from './ledger.ts';

const CONNECTIONS = 3;
/** Besides those, connections that send so many commands at once. */
const PIPELINE = 24;
const COUNTERS = 5;
/** Writes of one key of siblings; the server refuses more than a hundred blind ones. */
const WRITES_PER_KEY = 12;
const RESTING_MS = 20;
const RACE_EVERY_MS = 25;
/** Own keys that a client remembers, to read and delete them. */
const REMEMBERED = 200;

interface Client {
  member: Member;
  redis: Redis;
  name: string;
  prng: Prng;
  /** Acknowledged keys of its own. */
  mine: string[];
  serial: number;
  risen: number;
  /** What it was told last, to see how a wrong answer came about. */
  last: string[];
}

/** Answers of a client that are kept for a report. */
const LAST_ANSWERS = 6;

export class Load {
  private readonly ledger: Ledger;
  private readonly prng: Prng;
  private readonly running = new Map<Member, { stop: boolean; ended: Promise<unknown> }>();
  private readonly racers = new Map<Member, Redis>();
  private racing: Promise<void> | null = null;
  private stopping = false;
  private held = false;
  private busy = 0;
  private clients = 0;
  private serial = 0;

  constructor(ledger: Ledger, seed: number) {
    this.ledger = ledger;
    this.prng = new Prng(seed);
  }

  /** Begins to load a node. */
  attach(member: Member): void {
    const state = { stop: false, ended: Promise.resolve() as Promise<unknown> };
    const loops = Array.from({ length: CONNECTIONS + 1 }, (_, i) => this.client(member, i === CONNECTIONS, state));
    state.ended = Promise.all(loops);
    this.running.set(member, state);
    this.racers.set(member, connectTo(member.port));
    this.racing ??= this.race();
  }

  /** Lets a node alone. */
  async detach(member: Member): Promise<void> {
    const state = this.running.get(member);
    if (state === undefined) return;
    state.stop = true;
    this.racers.get(member)?.disconnect();
    this.racers.delete(member);
    await state.ended;
    this.running.delete(member);
  }

  /** No more commands; resolves when none is under way. */
  async hold(): Promise<void> {
    this.held = true;
    while (this.busy > 0) await sleep(5);
  }

  release(): void {
    this.held = false;
  }

  async stop(): Promise<void> {
    this.stopping = true;
    await Promise.all([...this.running.keys()].map((m) => this.detach(m)));
    await this.racing;
  }

  private async client(member: Member, pipelined: boolean, state: { stop: boolean }): Promise<void> {
    const c: Client = {
      member,
      redis: connectTo(member.port),
      name: `${member.name}.${this.clients++}`,
      prng: new Prng(this.prng.int(0x7fff_ffff)),
      mine: [],
      serial: 0,
      risen: 0,
      last: [],
    };
    while (!state.stop) {
      if (this.held || !(await usable(c.redis, 100))) {
        await sleep(10);
        continue;
      }
      // another one may have been told to hold while this one was connecting
      if (this.held) continue;
      this.busy++;
      try {
        const failed = pipelined ? await this.batch(c) : await this.one(c);
        if (failed) await sleep(RESTING_MS);
        else if (pipelined) await sleep(RESTING_MS);
        else if (c.prng.chance(0.3)) await sleep(1);
      } finally {
        this.busy--;
      }
    }
    c.redis.disconnect();
  }

  /** Runs a command; null when its answer never came or is an error. */
  private async ask<T>(c: Client, what: string, sent: Promise<T>): Promise<{ reply: T } | null> {
    if (c.last.length >= LAST_ANSWERS) c.last.shift();
    try {
      const reply = await sent;
      c.last.push(`${what} -> ${JSON.stringify(reply).slice(0, 80)}`);
      this.ledger.acks++;
      return { reply };
    } catch (error) {
      c.last.push(`${what} -> ${reasonOf(error)}`);
      this.ledger.unknown++;
      this.ledger.error(c.member.name, reasonOf(error));
      return null;
    }
  }

  /** One command, or one read and write. True when something was not answered. */
  private async one(c: Client): Promise<boolean> {
    const dice = c.prng.int(100);
    if (dice < 35) return this.set(c);
    if (dice < 50) return this.incr(c);
    if (dice < 58) return this.del(c);
    if (dice < 70) return this.read(c);
    if (dice < 80) return this.dset(c);
    if (dice < 90) return this.basket(c);
    return this.rise(c);
  }

  private newSingle(c: Client): [string, Single] {
    const n = c.serial++;
    const single: Single = { value: `<${c.name}:${n}>`.padEnd(20 + (n % 100), '.'), set: 'unknown', deleted: 'no' };
    return [`single:${c.name}:${n}`, single];
  }

  private wasSet(c: Client, key: string, single: Single, acked: boolean): void {
    single.set = acked ? 'acked' : 'unknown';
    this.ledger.singles.set(key, single);
    if (!acked) return;
    if (c.mine.length < REMEMBERED) c.mine.push(key);
    else c.mine[c.prng.int(REMEMBERED)] = key;
  }

  private async set(c: Client): Promise<boolean> {
    const [key, single] = this.newSingle(c);
    const answer = await this.ask(c, `SET ${key}`, c.redis.set(key, single.value));
    this.wasSet(c, key, single, answer !== null);
    return answer === null;
  }

  private async incr(c: Client): Promise<boolean> {
    const key = `counter:${c.prng.int(COUNTERS)}`;
    const answer = await this.ask(c, `INCR ${key}`, c.redis.incr(key));
    this.ledger.incremented(key, answer?.reply ?? null);
    return answer === null;
  }

  private async del(c: Client): Promise<boolean> {
    if (c.mine.length === 0) return false;
    const [key] = c.mine.splice(c.prng.int(c.mine.length), 1);
    const single = this.ledger.singles.get(key)!;
    single.deleted = 'unknown';
    const answer = await this.ask(c, `DEL ${key}`, c.redis.del(key));
    if (answer?.reply === 1) single.deleted = 'acked';
    else if (answer !== null) this.ledger.surprise(`DEL of ${key} on ${c.member.name} found nothing there`);
    return answer === null;
  }

  private async read(c: Client): Promise<boolean> {
    if (c.mine.length === 0) return false;
    const key = c.prng.pick(c.mine);
    const { value } = this.ledger.singles.get(key)!;
    const answer = await this.ask(c, `GET ${key}`, c.redis.get(key));
    if (answer !== null && answer.reply !== value)
      this.ledger.surprise(`GET ${key} on ${c.member.name} gave ${answer.reply}`);
    return answer === null;
  }

  private async rise(c: Client): Promise<boolean> {
    const key = `rising:${c.name}`;
    const value = ++c.risen;
    let known = this.ledger.rising.get(key);
    if (known === undefined) this.ledger.rising.set(key, (known = { acked: 0, unknown: new Set() }));
    const answer = await this.ask(c, `SET ${key}`, c.redis.set(key, String(value)));
    if (answer === null) known.unknown.add(value);
    else known.acked = value;
    return answer === null;
  }

  /** A version by somebody who has read nothing. */
  private async dset(c: Client): Promise<boolean> {
    const n = this.serial++;
    const key = `blind:${Math.floor(n / WRITES_PER_KEY)}`;
    const value = `${c.name}-${n}`;
    const { writes } = this.ledger.versions(this.ledger.blind, key);
    const write = { outcome: 'unknown' as 'unknown' | 'acked', covers: [] };
    writes.set(value, write);
    const answer = await this.ask(c, `DSET ${key}`, c.redis.call('DSET', key, value));
    if (answer !== null) write.outcome = 'acked';
    return answer === null;
  }

  /** Reads a basket with all its versions, and writes one that replaces them. */
  private async basket(c: Client): Promise<boolean> {
    const n = this.serial++;
    const key = `basket:${Math.floor(n / (2 * WRITES_PER_KEY))}`;
    const read = await this.ask(c, `DGET ${key}`, c.redis.call('DGET', key) as Promise<[string, string[]]>);
    if (read === null) return true;
    if (!Array.isArray(read.reply)) throw new Error(`DGET on ${c.name} gave no versions: ${c.last.join(' | ')}`);
    const [context, versions] = read.reply;
    const value = [...new Set([...versions.flatMap(itemsOf), `${c.name}-${n}`])].join();
    const { writes } = this.ledger.versions(this.ledger.baskets, key);
    const write = { outcome: 'unknown' as 'unknown' | 'acked', covers: versions };
    writes.set(value, write);
    const answer = await this.ask(c, `DSET ${key} ${value}`, c.redis.call('DSET', key, value, 'CONTEXT', context));
    if (answer !== null) write.outcome = 'acked';
    return answer === null;
  }

  /** Many commands in one go; their answers are told apart. */
  private async batch(c: Client): Promise<boolean> {
    const pipeline = c.redis.pipeline();
    const settle: ((reply: unknown, error: Error | null) => void)[] = [];
    for (let i = 0; i < PIPELINE; i++) {
      if (c.prng.chance(0.3)) {
        const key = `counter:${c.prng.int(COUNTERS)}`;
        pipeline.incr(key);
        settle.push((reply, error) => this.ledger.incremented(key, error === null ? Number(reply) : null));
      } else {
        const [key, single] = this.newSingle(c);
        pipeline.set(key, single.value);
        settle.push((_, error) => this.wasSet(c, key, single, error === null));
      }
    }
    const answers = await pipeline.exec().catch((error) => {
      this.ledger.error(c.member.name, reasonOf(error));
      return null;
    });
    let failed = false;
    settle.forEach((tell, i) => {
      const [error, reply] = answers === null ? [new Error('no answer'), null] : answers[i];
      tell(reply, error);
      if (error === null) {
        this.ledger.acks++;
      } else {
        failed = true;
        this.ledger.unknown++;
        if (answers !== null) this.ledger.error(c.member.name, error.message);
      }
    });
    return failed;
  }

  /** One client on each node wants the same lock at the same moment. */
  private async race(): Promise<void> {
    for (let n = 0; !this.stopping; n++) {
      await sleep(RACE_EVERY_MS);
      if (this.held) continue;
      this.busy++;
      const key = `race:${n}`;
      const race = { winners: [] as string[], unknown: [] as string[], losers: 0 };
      this.ledger.races.set(key, race);
      await Promise.all(
        [...this.racers].map(async ([member, redis]) => {
          if (redis.status !== 'ready') return;
          try {
            const reply = await redis.set(key, member.name, 'NX');
            if (reply === 'OK') race.winners.push(member.name);
            else race.losers++;
            this.ledger.acks++;
          } catch (error) {
            race.unknown.push(member.name);
            this.ledger.unknown++;
            this.ledger.error(member.name, reasonOf(error));
          }
        }),
      );
      this.busy--;
    }
  }
}
