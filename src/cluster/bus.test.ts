/** The bus over real sockets: one link a pair whatever happens, frames whole and in order, and strangers kept out. */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { TruncatedError } from '../base/bytes.ts';
import { systemClock, systemRandom, systemTimers } from '../platform/system.ts';
import { TcpTransport } from '../platform/tcp.ts';
import type { Clock, Timers } from '../ports/clock.ts';
import type { Connection, ConnectOptions, Listener, ListenOptions, Transport } from '../ports/transport.ts';
import { QuietLog } from '../sim/quiet-log.ts';
import { SeededRandom } from '../sim/random.ts';
import {
  BUS_VERSION,
  Bus,
  type BusOptions,
  CHALLENGE_MS,
  HANDSHAKE_MS,
  type Hello,
  LINK_DEAD_MS,
  type Link,
  MAX_LINK_QUEUE_BYTES,
  MAX_UNPROVEN_CONNECTIONS,
  MIN_BUS_VERSION,
} from './bus.ts';
import { FRAME_HEADER_BYTES, FrameReader, writeFrame } from './frames.ts';
import { encodeHello, KIND_CLOSE, KIND_HELLO, KIND_PROOF } from './handshake.ts';

const tcp = new TcpTransport();
const idOf = (i: number) => i.toString(16).padStart(40, '0');

interface Node {
  id: string;
  bus: Bus;
  address: string;
  log: QuietLog;
  /** What has happened, in order: `up 2`, `down 2`, `2: 16 payload`. */
  events: string[];
  refusals: string[];
  hello: Hello;
}

type Extra = Partial<BusOptions> & { hi?: Partial<Hello>; announce?: string };

const opened: Bus[] = [];
after(() => Promise.all(opened.map((b) => b.close())));

async function node(i: number, extra: Extra = {}): Promise<Node> {
  const { hi, announce, ...options } = extra;
  const log = new QuietLog();
  const n: Node = {
    id: idOf(i),
    address: '',
    log,
    events: [],
    refusals: [],
    hello: { nodeId: idOf(i), clusterId: '', session: 1, bus: '', client: `client:${i}`, ...hi },
    bus: null as unknown as Bus,
  };
  n.bus = new Bus({
    transport: tcp,
    clock: systemClock,
    timers: systemTimers,
    random: systemRandom,
    log,
    hello: () => n.hello,
    secret: 'sesame',
    tls: null,
    ...options,
  });
  opened.push(n.bus);
  n.bus.onUp = (l) => n.events.push(`up ${Number.parseInt(l.nodeId, 16)}`);
  n.bus.onDown = (l) => n.events.push(`down ${Number.parseInt(l.nodeId, 16)}`);
  n.bus.onFrame = (l, kind, buf, start, end) =>
    n.events.push(`${Number.parseInt(l.nodeId, 16)}: ${kind} ${buf.latin1Slice(start, end)}`);
  n.bus.onRefused = (_address, why) => n.refusals.push(why);
  n.address = await n.bus.listen('127.0.0.1', 0);
  n.hello = { ...n.hello, bus: announce ?? n.address };
  return n;
}

async function until(condition: () => boolean, what: string, ms = 5000): Promise<void> {
  const end = Date.now() + ms;
  while (!condition()) {
    if (Date.now() > end) assert.fail(`never happened: ${what}`);
    await sleep(2);
  }
}

const linked = (a: Node, b: Node) =>
  until(() => !!a.bus.link(b.id) && !!b.bus.link(a.id), `${a.id} and ${b.id} linked`);
const send = (link: Link | null, text: string, kind = 16) => {
  const bytes = Buffer.from(text, 'latin1');
  return link!.send(kind, bytes, 0, bytes.length);
};
const close = (...nodes: Node[]) => Promise.all(nodes.map((n) => n.bus.close()));
const count = (n: Node, event: string) => n.events.filter((e) => e === event).length;

/** Time that runs `factor` times as fast. */
function fast(factor: number): { clock: Clock; timers: Timers } {
  return {
    clock: { now: () => systemClock.now(), monotonic: () => systemClock.monotonic() * factor },
    timers: {
      after: (ms, run) => systemTimers.after(ms / factor, run),
      every: (ms, run) => systemTimers.every(ms / factor, run),
      endOfTick: systemTimers.endOfTick,
    },
  };
}

/** Hands input over in random pieces, late, in a buffer that is overwritten at once. */
class Choppy implements Transport {
  private readonly random: SeededRandom;

  constructor(seed: number) {
    this.random = new SeededRandom(seed);
  }

  private chop(connection: Connection): Connection {
    const { random } = this;
    const queue: Buffer[] = [];
    let pouring = false;
    let closed = false;
    let inner = connection.handler;
    const pour = () => {
      pouring = false;
      const bytes = Buffer.concat(queue.splice(0));
      for (let at = 0; at < bytes.length && !closed; ) {
        const n = Math.min(bytes.length - at, 1 + random.int(random.int(2) === 0 ? 9 : 5000));
        const shared = Buffer.concat([Buffer.alloc(3), bytes.subarray(at, at + n)]);
        at += n;
        inner.onData(shared, 3, shared.length);
        shared.fill(0xee);
      }
    };
    connection.handler = {
      onData(buf, start, end) {
        queue.push(Buffer.from(buf.subarray(start, end)));
        if (!pouring) setTimeout(pour, random.int(3));
        pouring = true;
      },
      onEnd: () => {
        pour();
        inner.onEnd();
      },
      onDrain: () => inner.onDrain(),
      onClose: () => {
        pour();
        closed = true;
        inner.onClose();
      },
    };
    return new Proxy(connection, {
      set: (target, name, value) => {
        if (name === 'handler') inner = value;
        else Reflect.set(target, name, value);
        return true;
      },
      get: (target, name) => {
        const value = Reflect.get(target, name);
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
  }

  async connect(options: ConnectOptions): Promise<Connection> {
    await sleep(this.random.int(3));
    return this.chop(await tcp.connect(options));
  }

  listen(options: ListenOptions, accept: (connection: Connection) => void): Promise<Listener> {
    return tcp.listen(options, (connection) => accept(this.chop(connection)));
  }
}

/** Something in between that passes bytes on, until it stops passing them without a word. */
class Middle {
  address = '';
  recorded: Buffer[] = [];
  private listener: Listener | null = null;
  private passing: { open: boolean; ends: Connection[] }[] = [];

  async open(to: string): Promise<this> {
    const [host, port] = to.split(':');
    this.listener = await tcp.listen({ host: '127.0.0.1', port: 0 }, (near) => {
      const pass = { open: true, ends: [near] };
      this.passing.push(pass);
      const early: Buffer[] = [];
      let far: Connection | null = null;
      const out = (b: Buffer) => {
        if (pass.open && far !== null) far.write(b, 0, b.length);
      };
      const handler = (other: () => Connection | null, data: (b: Buffer) => void) => ({
        onData: (buf: Buffer, start: number, end: number) => data(Buffer.from(buf.subarray(start, end))),
        onEnd: () => pass.open && other()?.end(),
        onDrain() {},
        onClose: () => pass.open && other()?.destroy(),
      });
      near.handler = handler(
        () => far,
        (b) => {
          this.recorded.push(b);
          if (far === null) early.push(b);
          else out(b);
        },
      );
      void tcp.connect({ host, port: Number(port), timeoutMs: 1000 }).then((connection) => {
        far = connection;
        pass.ends.push(far);
        far.handler = handler(
          () => near,
          (b) => pass.open && near.write(b, 0, b.length),
        );
        for (const b of early) out(b);
      });
    });
    this.address = this.listener.address;
    return this;
  }

  /** What is open now carries nothing any more; its ends don't learn of it. */
  blackhole(): void {
    for (const p of this.passing) p.open = false;
  }

  /** Nobody new gets through. */
  async shut(): Promise<void> {
    await this.listener!.close();
  }

  destroy(): void {
    void this.listener!.close();
    for (const p of this.passing) for (const c of p.ends) c.destroy();
  }
}

/** A stranger: a bare connection that frames what it is told to. */
class Raw {
  frames: { kind: number; payload: Buffer }[] = [];
  closed = false;
  connection: Connection;

  constructor(connection: Connection) {
    this.connection = connection;
    const reader = new FrameReader(
      { frame: (kind, buf, s, e) => void this.frames.push({ kind, payload: Buffer.from(buf.subarray(s, e)) }) },
      1 << 20,
    );
    connection.handler = {
      onData: (buf, start, end) => void reader.read(buf, start, end),
      onEnd: () => connection.end(),
      onDrain() {},
      onClose: () => {
        this.closed = true;
      },
    };
  }

  static async dial(address: string): Promise<Raw> {
    const [host, port] = address.split(':');
    return new Raw(await tcp.connect({ host, port: Number(port), timeoutMs: 1000 }));
  }

  write(bytes: Buffer): void {
    this.connection.write(bytes, 0, bytes.length);
  }

  frame(kind: number, payload: Buffer): void {
    const out = Buffer.alloc(payload.length + FRAME_HEADER_BYTES);
    writeFrame(out, 0, kind, payload, 0, payload.length);
    this.write(out);
  }
}

// ---------------------------------------------------------------------- links

test('a link comes up at both ends, and each knows the other', async () => {
  const [a, b] = [await node(1), await node(2, { hi: { clusterId: 'c1', session: 7 } })];
  a.bus.want(b.address);
  a.bus.want(b.address);
  await linked(a, b);
  const [ab, ba] = [a.bus.link(b.id)!, b.bus.link(a.id)!];
  assert.deepEqual(ab.hello, b.hello);
  assert.deepEqual(ba.hello, a.hello);
  assert.equal(ab.address, b.address);
  assert.deepEqual([ab.version, ba.version], [BUS_VERSION, BUS_VERSION]);
  assert.deepEqual([...a.bus.links()], [ab]);
  assert.ok(send(ab, 'to b') && send(ba, 'to a', 255) && send(ba, ''));
  await until(() => a.events.length === 3 && b.events.length === 2, 'frames');
  assert.deepEqual(a.events, ['up 2', '2: 255 to a', '2: 16 ']);
  assert.deepEqual(b.events, ['up 1', '1: 16 to b']);
  assert.equal(ab.pending(), 0);
  assert.deepEqual([a.bus.stats.framesIn, a.bus.stats.framesOut, a.bus.stats.links], [2, 1, 1]);
  await close(a, b);
  assert.equal(send(ab, 'late'), false);
});

test('frames come whole and in order through every split, of every size', async () => {
  const [a, b] = [await node(1, { transport: new Choppy(1) }), await node(2, { transport: new Choppy(2) })];
  const sizes = new SeededRandom(3);
  const noise = systemRandom.bytes(400_000);
  const got: Record<string, number> = { a: 0, b: 0 };
  const plan = Array.from({ length: 3000 }, (_, i) =>
    i % 500 === 499 ? 300_000 : sizes.int(i % 50 === 0 ? 20_000 : 90),
  );
  const check = (who: string) => (_l: Link, kind: number, buf: Buffer, start: number, end: number) => {
    const i = got[who]++;
    assert.equal(end - start, plan[i]);
    assert.equal(kind, 16 + (i % 240));
    assert.ok(buf.subarray(start, end).equals(noise.subarray(i, i + plan[i])), `frame ${i}`);
  };
  a.bus.onFrame = check('a');
  b.bus.onFrame = check('b');
  a.bus.want(b.address);
  await linked(a, b);
  for (let i = 0; i < plan.length; i++) {
    for (const link of [a.bus.link(b.id)!, b.bus.link(a.id)!])
      assert.ok(link.send(16 + (i % 240), noise, i, i + plan[i]));
    if (i % 100 === 0) await sleep(1);
  }
  await until(() => got.a === plan.length && got.b === plan.length, 'all frames', 15_000);
  await close(a, b);
});

test('two that dial each other at once have one link, and lose nothing', async () => {
  for (let round = 0; round < 150; round++) {
    const choppy = round % 3 === 2;
    const [a, b] = await Promise.all([
      node(round % 2 === 0 ? 1 : 3, { transport: choppy ? new Choppy(round) : tcp }),
      node(2, { transport: choppy ? new Choppy(round + 1000) : tcp }),
    ]);
    for (const n of [a, b]) {
      const { onUp } = n.bus;
      n.bus.onUp = (l) => {
        onUp(l);
        for (let i = 0; i < 20; i++) assert.ok(send(l, `${i}`));
      };
    }
    a.bus.want(b.address);
    if (round % 5 === 4) await sleep(round % 4);
    b.bus.want(a.address);
    await until(() => a.events.length >= 21 && b.events.length >= 21, `round ${round}`);
    // whatever else is under way must change nothing
    await sleep(round % 10 === 0 ? 120 : 5);
    for (const [n, other] of [
      [a, b],
      [b, a],
    ]) {
      const o = Number.parseInt(other.id, 16);
      assert.deepEqual(n.events, [`up ${o}`, ...Array.from({ length: 20 }, (_, i) => `${o}: 16 ${i}`)], `${round}`);
      assert.deepEqual(n.refusals, []);
    }
    await close(a, b);
  }
});

test('a crowd that dials in all directions has one link a pair', async () => {
  const nodes = await Promise.all(Array.from({ length: 12 }, (_, i) => node(i + 1)));
  for (const n of nodes) for (const m of nodes) n.bus.want(m.address);
  await until(() => nodes.every((n) => [...n.bus.links()].length === 11), 'all linked');
  // a challenge that nobody answers would be over by now
  await sleep(CHALLENGE_MS + 200);
  for (const n of nodes) {
    assert.equal(n.events.length, 11, n.events.join());
    assert.deepEqual(n.refusals, []);
  }
  await close(...nodes);
});

test('our own address is not dialled again, nor another address of a node that is linked', async () => {
  const [a, b] = [await node(1), await node(2)];
  const alias = await new Middle().open(b.address);
  const self = await new Middle().open(a.address);
  a.bus.want(b.address);
  a.bus.want(a.address);
  a.bus.want(self.address);
  await linked(a, b);
  a.bus.want(alias.address);
  await sleep(400);
  assert.deepEqual(a.events, ['up 2']);
  assert.deepEqual(b.events, ['up 1']);
  assert.deepEqual(a.refusals, []);
  assert.equal([...a.bus.links()].length, 1);
  assert.equal(alias.recorded.length, 1);
  assert.equal(self.recorded.length, 1);
  // the alias serves when the address itself is forgotten
  a.bus.forget(b.address);
  a.bus.link(b.id)!.destroy();
  await linked(a, b);
  assert.equal(a.bus.link(b.id)!.address, alias.address);
  alias.destroy();
  self.destroy();
  await close(a, b);
});

test('a link that ends is made again, from either end, and by whoever dials; a forgotten one is not', async () => {
  const [a, b] = [await node(1), await node(2)];
  a.bus.want(b.address);
  await linked(a, b);
  for (const [x, y] of [
    [a, b],
    [b, a],
  ]) {
    const old = x.bus.link(y.id)!;
    old.destroy();
    assert.equal(x.bus.link(y.id), null);
    assert.equal(old.send(16, Buffer.alloc(1), 0, 1), false);
    await until(() => a.bus.link(b.id) !== null && b.events.at(-1) === 'up 1', 'linked again');
  }
  assert.deepEqual(a.events, ['up 2', 'down 2', 'up 2', 'down 2', 'up 2']);
  a.bus.forget(b.address);
  await linked(a, b);
  b.bus.link(a.id)!.destroy();
  await sleep(300);
  assert.equal(a.events.at(-1), 'down 2');
  await close(a, b);
});

test('a link ends with a message that can not be decoded, or a frame that has no place on it', async () => {
  const taken: Connection[] = [];
  const noting: Transport = {
    listen: (o, accept) => tcp.listen(o, accept),
    connect: async (o) => {
      const connection = await tcp.connect(o);
      taken.push(connection);
      return connection;
    },
  };
  const [a, b] = [await node(1, { transport: noting }), await node(2)];
  a.bus.want(b.address);
  await linked(a, b);
  assert.equal(b.bus.link(a.id)!.address, a.address);
  b.bus.onFrame = () => {
    throw new TruncatedError();
  };
  send(a.bus.link(b.id), 'nonsense');
  await until(() => b.events.at(-1) === 'down 1', 'down');
  await linked(a, b);
  for (const bytes of ['0100000001', '0100000000', '00000000', 'ffffffff']) {
    const ups = count(b, 'up 1');
    taken.at(-1)!.write(Buffer.from(bytes, 'hex'), 0, bytes.length / 2);
    await until(() => count(b, 'up 1') === ups + 1, `another link after ${bytes}`);
    await linked(a, b);
  }
  const still = b.events.length;
  for (const bytes of ['010000000f', '0100000005', '0200000007aa'])
    taken.at(-1)!.write(Buffer.from(bytes, 'hex'), 0, bytes.length / 2);
  await sleep(30);
  assert.equal(b.events.length, still);
  await close(a, b);
});

test('an address where nobody is yet is dialled until somebody is', async () => {
  const b = await node(2);
  const { address } = b;
  await b.bus.close();
  const a = await node(1);
  a.bus.want(address);
  a.bus.want('nonsense');
  a.bus.want('host:99999');
  await until(() => a.refusals.length >= 4, 'refusals');
  assert.equal(a.refusals.filter((r) => /not an address/.test(r)).length, 2);
  assert.ok(a.refusals.some((r) => /ECONNREFUSED/.test(r)));
  const c = await node(3);
  await c.bus.listen('127.0.0.1', Number(address.split(':')[1]));
  await linked(a, c);
  await close(a, c);
});

// ---------------------------------------------------------------------- dead connections

for (const [i, j] of [
  [1, 2],
  [2, 1],
]) {
  test(`node ${j} comes by a fresh connection while ${i} holds a dead one`, async () => {
    const [a, b] = [await node(i), await node(j)];
    const middle = await new Middle().open(a.address);
    b.bus.want(middle.address);
    await linked(a, b);
    const old = a.bus.link(b.id);
    middle.blackhole();
    b.bus.link(a.id)!.destroy();
    const started = Date.now();
    await until(() => a.bus.link(b.id) !== old && b.bus.link(a.id) !== null, 'replaced');
    assert.ok(Date.now() - started < CHALLENGE_MS + 1000);
    assert.deepEqual(a.events, [`up ${j}`, `down ${j}`, `up ${j}`]);
    send(b.bus.link(a.id), 'hello');
    await until(() => a.events.at(-1) === `${j}: 16 hello`, 'a frame');
    middle.destroy();
    await close(a, b);
  });

  test(`node ${j} starts again, and its link to ${i} is replaced at once`, async () => {
    const a = await node(i);
    const b = await node(j);
    const middle = await new Middle().open(a.address);
    b.bus.want(middle.address);
    await linked(a, b);
    middle.blackhole();
    await b.bus.close();
    const again = await node(j, { hi: { session: 2 } });
    const started = Date.now();
    again.bus.want(middle.address);
    await until(() => a.bus.link(b.id)?.hello.session === 2, 'replaced');
    assert.ok(Date.now() - started < CHALLENGE_MS);
    assert.deepEqual(a.events, [`up ${j}`, `down ${j}`, `up ${j}`]);
    middle.destroy();
    await close(a, again);
  });
}

test('a link that has gone silent is given up, one that is only idle is not', async () => {
  const factor = 20;
  const [a, b, c] = [await node(1, fast(factor)), await node(2, fast(factor)), await node(3, fast(factor))];
  const middle = await new Middle().open(a.address);
  b.bus.want(middle.address);
  c.bus.want(a.address);
  await linked(a, b);
  await linked(a, c);
  await sleep((LINK_DEAD_MS / factor) * 1.5);
  assert.ok(a.bus.link(b.id) !== null && a.bus.link(c.id) !== null);
  middle.blackhole();
  await middle.shut();
  await until(() => a.bus.link(b.id) === null && b.bus.link(a.id) === null, 'given up');
  assert.deepEqual([count(a, 'down 2'), count(a, 'down 3')], [1, 0]);
  middle.destroy();
  await close(a, b, c);
});

// ---------------------------------------------------------------------- cut and heal

test('a cut drops everything in silence until it heals', async () => {
  const [a, b, c] = [await node(1), await node(2), await node(3)];
  for (const n of [b, c]) a.bus.want(n.address);
  b.bus.want(a.address);
  await linked(a, b);
  await linked(a, c);
  a.bus.cut(b.id);
  assert.ok(a.bus.isCut(b.id) && !a.bus.isCut(c.id));
  assert.ok(send(a.bus.link(b.id), 'lost'));
  assert.ok(send(b.bus.link(a.id), 'lost too'));
  send(a.bus.link(c.id), 'not lost');
  await until(() => c.events.at(-1) === '1: 16 not lost', 'the other link works');
  b.bus.link(a.id)!.destroy();
  await sleep(300);
  assert.equal(b.bus.link(a.id), null);
  assert.equal(a.bus.link(b.id), null);
  a.bus.heal(b.id);
  await linked(a, b);
  send(a.bus.link(b.id), 'again');
  await until(() => b.events.at(-1) === '1: 16 again', 'frames pass again');
  for (const n of [a, b]) assert.ok(!n.events.some((e) => e.includes('lost')), n.events.join());
  assert.equal(a.bus.stats.dropped, 1);
  await close(a, b, c);
});

test('a link that was cut does not go on after frames were lost', async () => {
  const [a, b] = [await node(1), await node(2)];
  a.bus.want(b.address);
  await linked(a, b);
  send(a.bus.link(b.id), 'queued');
  a.bus.cut(b.id);
  await sleep(50);
  a.bus.heal(b.id);
  assert.deepEqual(a.events, ['up 2', 'down 2']);
  await linked(a, b);
  await until(() => count(b, 'up 1') === 2, 'a new link');
  assert.deepEqual(b.events, ['up 1', 'down 1', 'up 1']);
  await close(a, b);
});

test('cut at both ends, and before they ever met', async () => {
  const [a, b] = [await node(1), await node(2)];
  a.bus.cut(b.id);
  b.bus.cut(a.id);
  a.bus.want(b.address);
  b.bus.want(a.address);
  await sleep(200);
  assert.deepEqual([a.events, b.events], [[], []]);
  a.bus.heal(b.id);
  await sleep(200);
  assert.deepEqual([a.events, b.events], [[], []]);
  b.bus.heal(a.id);
  await linked(a, b);
  await close(a, b);
});

// ---------------------------------------------------------------------- backpressure

test('a peer that takes nothing has a bounded queue, and gets all of it in the end', async () => {
  const held: Connection[] = [];
  const slow: Transport = {
    connect: (o) => tcp.connect(o),
    listen: (o, accept) =>
      tcp.listen(o, (connection) => {
        held.push(connection);
        accept(connection);
      }),
  };
  const [a, b] = [await node(1), await node(2, { transport: slow })];
  const got: number[] = [];
  b.bus.onFrame = (_l, _kind, buf, start) => void got.push(buf.readUInt32LE(start));
  a.bus.want(b.address);
  await linked(a, b);
  held[0].pause();
  const link = a.bus.link(b.id)!;
  const payload = Buffer.alloc(200_000);
  let sent = 0;
  const more = (size: number) => {
    payload.writeUInt32LE(sent);
    if (!link.send(20, payload, 0, size)) return false;
    sent++;
    return true;
  };
  for (let i = 0; i < 2000; i++) {
    if (!more(i % 10 === 0 ? 200_000 : 500)) break;
    if (i % 50 === 0) await sleep(1);
    assert.ok(link.pending() <= MAX_LINK_QUEUE_BYTES);
  }
  while (more(200_000)) assert.ok(link.pending() <= MAX_LINK_QUEUE_BYTES);
  assert.ok(link.pending() > MAX_LINK_QUEUE_BYTES - 300_000, `${link.pending()}`);
  assert.equal(link.send(20, payload, 0, 200_000), false);
  assert.ok(a.bus.stats.full > 1);
  held[0].resume();
  await until(() => got.length === sent, 'all of it', 15_000);
  assert.ok(got.every((n, i) => n === i));
  await until(() => link.pending() === 0, 'an empty queue');
  assert.ok(more(500));
  await until(() => got.length === sent, 'one more');
  await close(a, b);
});

test('small frames for a peer that lags are gathered, not piled up one by one', async () => {
  const held: Connection[] = [];
  let writes = 0;
  const slow: Transport = {
    listen: (o, accept) =>
      tcp.listen(o, (connection) => {
        held.push(connection);
        accept(connection);
      }),
    connect: async (o) => {
      const connection = await tcp.connect(o);
      const write = connection.write.bind(connection);
      connection.write = (buf, start, end) => {
        writes++;
        return write(buf, start, end);
      };
      return connection;
    },
  };
  const [a, b] = [await node(1, { transport: slow }), await node(2, { transport: slow })];
  const got: string[] = [];
  b.bus.onFrame = (_l, _kind, buf, start, end) => void got.push(buf.latin1Slice(start, end));
  a.bus.want(b.address);
  await linked(a, b);
  held[0].pause();
  const link = a.bus.link(b.id)!;
  const big = Buffer.alloc(8_000_000);
  assert.ok(link.send(16, big, 0, big.length));
  await sleep(20);
  assert.ok(link.pending() > 0);
  writes = 0;
  for (let i = 0; i < 30_000; i++) {
    assert.ok(send(link, `${i}`));
    link.flush();
  }
  assert.ok(writes <= 6, `${writes} writes`);
  held[0].resume();
  await until(() => got.length === 30_001, 'all of it');
  assert.ok(got.slice(1).every((t, i) => t === `${i}`));
  await close(a, b);
});

// ---------------------------------------------------------------------- who gets in

test('another secret is refused, and logged once', async () => {
  const [a, b] = [await node(1, fast(10)), await node(2, { ...fast(10), secret: 'other' })];
  a.bus.want(b.address);
  await until(() => a.refusals.length >= 3 && b.refusals.length >= 3, 'refusals');
  assert.ok(a.refusals.every((r) => /cluster-secret/.test(r)));
  assert.ok(b.refusals.every((r) => /cluster-secret/.test(r)));
  for (const n of [a, b]) assert.equal(n.log.lines.filter((l) => l.level === 'warn').length, 1);
  assert.deepEqual([a.events, b.events], [[], []]);
  assert.ok(a.bus.stats.refused >= 3);
  await close(a, b);
});

test('another cluster is refused, with the reason', async () => {
  const [a, b] = [await node(1, { hi: { clusterId: 'x' } }), await node(2, { hi: { clusterId: 'y' } })];
  a.bus.want(b.address);
  await until(() => a.refusals.length > 0 && b.refusals.length > 0, 'refusals');
  assert.match(a.refusals[0], /another cluster/);
  assert.match(b.refusals[0], /another cluster/);
  a.hello = { ...a.hello, clusterId: 'y' };
  await linked(a, b);
  await close(a, b);
});

test('a copy of a node is refused', async () => {
  const [a, b] = [await node(1), await node(1)];
  a.bus.want(b.address);
  await until(() => a.refusals.length > 0 && b.refusals.length > 0, 'refusals');
  assert.match(a.refusals[0], /same node id/);
  await close(a, b);
});

test('versions: an old and a new node speak the older; two with none in common do not', async () => {
  const old = await node(1, { versions: [1, 1] });
  const both = await node(2, { versions: [1, 2] });
  const both2 = await node(3, { versions: [1, 2] });
  const late = await node(4, { versions: [2, 2] });
  old.bus.want(both.address);
  both2.bus.want(both.address);
  late.bus.want(both.address);
  late.bus.want(old.address);
  await Promise.all([linked(old, both), linked(both2, both), linked(late, both)]);
  const version = (x: Node, y: Node) => [x.bus.link(y.id)!.version, y.bus.link(x.id)!.version];
  assert.deepEqual(
    [version(old, both), version(both2, both), version(late, both)],
    [
      [1, 1],
      [2, 2],
      [2, 2],
    ],
  );
  await until(() => late.refusals.length > 0 && old.refusals.length > 0, 'refusals');
  assert.match(late.refusals[0], /it speaks version 1, this node version 2/);
  assert.equal(late.bus.link(old.id), null);
  await close(old, both, both2, late);
});

test('this build and the one before it speak what that one knows', async () => {
  const before = await node(1, { versions: [MIN_BUS_VERSION, BUS_VERSION - 1] });
  const now = await node(2);
  now.bus.want(before.address);
  await linked(now, before);
  assert.deepEqual(
    [now.bus.link(before.id)!.version, before.bus.link(now.id)!.version],
    [BUS_VERSION - 1, BUS_VERSION - 1],
  );
  await close(now, before);
});

test('a handshake that was listened to is worth nothing when it is said again', async () => {
  const [a, b] = [await node(1), await node(2)];
  const middle = await new Middle().open(a.address);
  b.bus.want(middle.address);
  await linked(a, b);
  const said = Buffer.concat(middle.recorded);
  await b.bus.close();
  await until(() => a.bus.link(b.id) === null, 'down');
  const raw = await Raw.dial(a.address);
  raw.write(said);
  await until(() => raw.closed, 'closed');
  assert.equal(count(a, 'up 2'), 1);
  assert.match(a.refusals.at(-1)!, /cluster-secret/);
  middle.destroy();
  await close(a);
});

test('a node that is told its own words back is not convinced', async () => {
  const a = await node(1);
  let proofs = 0;
  // an acceptor without the secret: says hello as somebody, and gives the proof back that it gets
  const listener = await tcp.listen({ host: '127.0.0.1', port: 0 }, (connection) => {
    const raw = new Raw(connection);
    const onFrame = raw.frames.push.bind(raw.frames);
    raw.frames.push = (...frames) => {
      for (const f of frames) {
        if (f.kind === KIND_HELLO) {
          const hello = { nodeId: idOf(9), clusterId: '', session: 1, bus: '', client: '' };
          raw.frame(KIND_HELLO, encodeHello([1, 1], Buffer.from(f.payload.subarray(12, 44)), hello));
        } else if (f.kind === KIND_PROOF) {
          proofs++;
          raw.frame(KIND_PROOF, f.payload);
        }
      }
      return onFrame(...frames);
    };
  });
  // with our own nonce it ends even before; so one that draws its own
  const honest = await tcp.listen({ host: '127.0.0.1', port: 0 }, (connection) => {
    const raw = new Raw(connection);
    const hello = { nodeId: idOf(8), clusterId: '', session: 1, bus: '', client: '' };
    raw.frame(KIND_HELLO, encodeHello([1, 1], systemRandom.bytes(32), hello));
    const timer = setInterval(() => {
      const proof = raw.frames.find((f) => f.kind === KIND_PROOF);
      if (raw.closed || proof !== undefined) clearInterval(timer);
      if (proof === undefined) return;
      proofs++;
      raw.frame(KIND_PROOF, proof.payload);
    }, 1);
  });
  a.bus.want(listener.address);
  a.bus.want(honest.address);
  await until(() => proofs >= 2 && a.refusals.length >= 2, 'refusals');
  assert.ok(a.refusals.every((r) => /cluster-secret/.test(r)));
  assert.deepEqual(a.events, []);
  await close(a);
  await listener.close();
  await honest.close();
});

test('strangers with random bytes, huge lengths and bits of handshakes get nowhere', async () => {
  const a = await node(1);
  const b = await node(2);
  const random = new SeededRandom(11);
  const hello = encodeHello([1, 1], systemRandom.bytes(32), { ...b.hello, nodeId: idOf(5) });
  const before = process.memoryUsage().external;
  const raws: Raw[] = [];
  for (let i = 0; i < 120; i++) {
    const raw = await Raw.dial(a.address);
    raws.push(raw);
    switch (i % 6) {
      case 0:
        raw.write(random.bytes(1 + random.int(3000)));
        break;
      case 1:
        raw.write(Buffer.from('ffffffff00', 'hex'));
        break;
      case 2:
        raw.write(Buffer.from('0140000001', 'hex'));
        break;
      case 3:
        raw.write(Buffer.from('GET / HTTP/1.1\r\n\r\n'));
        break;
      case 4:
        raw.frame(KIND_HELLO, hello);
        raw.frame(16 + random.int(200), random.bytes(100));
        break;
      default:
        raw.frame(KIND_HELLO, hello.subarray(0, random.int(hello.length)));
        break;
    }
  }
  await until(() => raws.filter((r) => !r.closed).length <= 5, 'closed');
  // some random bytes promise a frame of a size that is allowed, and are waited for
  for (const r of raws) r.connection.destroy();
  assert.ok(process.memoryUsage().external - before < 8 * 1024 * 1024);
  b.bus.want(a.address);
  await linked(a, b);
  assert.deepEqual(a.events, ['up 2']);
  assert.ok(raws.every((r) => r.frames.every((f) => f.kind === KIND_HELLO || f.kind === KIND_CLOSE)));
  assert.equal(a.log.lines.filter((l) => l.level === 'warn').length, 1);
  await close(a, b);
});

test('strangers who say nothing are few and soon gone', async () => {
  const factor = 5;
  const a = await node(1, fast(factor));
  const raws: Raw[] = [];
  for (let i = 0; i < MAX_UNPROVEN_CONNECTIONS + 50; i++) raws.push(await Raw.dial(a.address));
  await until(() => raws.filter((r) => r.closed).length >= 50, 'the oldest are closed');
  assert.ok(raws.slice(0, 50).every((r) => r.closed) && raws.slice(-50).every((r) => !r.closed));
  const b = await node(2);
  b.bus.want(a.address);
  await linked(a, b);
  await until(() => raws.every((r) => r.closed), 'all gone', HANDSHAKE_MS / factor + 1000);
  await close(a, b);
});

test('a dialler is not kept waiting for ever either', async () => {
  const silent = await tcp.listen({ host: '127.0.0.1', port: 0 }, (c) => void new Raw(c));
  const rude = await tcp.listen({ host: '127.0.0.1', port: 0 }, (c) => c.destroy());
  const a = await node(1, fast(20));
  a.bus.want(silent.address);
  a.bus.want(rude.address);
  await until(
    () => a.refusals.some((r) => /took too long/.test(r)) && a.refusals.some((r) => /closed/.test(r)),
    'both',
  );
  await close(a);
  await silent.close();
  await rude.close();
});
