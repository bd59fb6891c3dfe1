/** The simulated network: the same seed is the same history, and each fault does what its name says. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CALM, CUT_NOTICE_MS, type LinkFaults, type Session, SimNetwork } from './network.ts';
import { VirtualTime } from './time.ts';

const FIXED: LinkFaults = { ...CALM, delay: { kind: 'fixed', ms: 10 } };

/** Nodes that keep what they get, with the time at which it came. */
function setup(names: string[], seed = 1, faults: LinkFaults = FIXED) {
  const time = new VirtualTime();
  const net = new SimNetwork(time, seed, faults);
  const log: string[] = [];
  const sessions = new Map<string, Session[]>();
  const note = (line: string) => log.push(`${time.monotonic().toFixed(3)} ${line}`);
  const attach = (at: string, session: Session) => {
    session.handler = {
      onMessage: (bytes) => note(`${at} got ${bytes}`),
      onBreak: () => note(`${at} broke`),
    };
    sessions.set(at, [...(sessions.get(at) ?? []), session]);
  };
  const start = (name: string) =>
    net.add(name, {
      onDatagram: (from, bytes) => note(`${name} got ${bytes} from ${from}`),
      onSession: (s) => attach(name, s),
    });
  for (const name of names) start(name);
  const connect = async (from: string, to: string): Promise<Session> => {
    let got: Session | null = null;
    net.connect(from, to, (s) => {
      got = s;
    });
    await time.advance(50);
    assert.ok(got !== null, 'not connected');
    attach(from, got);
    return got;
  };
  return { time, net, log, start, connect, sessions, attach };
}

const text = (s: string) => Buffer.from(s);

test('one seed, one history; another seed, another', async () => {
  const wild: LinkFaults = {
    delay: { kind: 'exponential', min: 1, mean: 20 },
    loss: 0.1,
    duplication: 0.1,
    reordering: 0.2,
    breakage: 0.01,
  };
  const history = async (seed: number) => {
    const { time, net, log, connect } = setup(['a', 'b', 'c'], seed, wild);
    for (let i = 0; i < 200; i++) {
      net.send('a', i % 2 ? 'b' : 'c', text(`m${i}`));
      if (i % 50 === 10) net.cut('a', 'b');
      if (i % 50 === 20) net.heal('a', 'b');
      await time.advance(1);
    }
    net.faults = { ...wild, delay: FIXED.delay };
    const s = await connect('a', 'c');
    for (let i = 0; i < 100 && s.send(text(`s${i}`)); i++);
    await time.advance(20_000);
    return log.join('\n');
  };
  const first = await history(5);
  assert.equal(await history(5), first);
  assert.notEqual(await history(6), first);
});

test('datagrams are lost, doubled and overtaken as often as was asked', async () => {
  const faults = { ...FIXED, loss: 0.2, duplication: 0.1, reordering: 0.1, delay: { kind: 'uniform', min: 1, max: 9 } };
  const { time, net, log } = setup(['a', 'b'], 3, faults as LinkFaults);
  for (let i = 0; i < 2000; i++) net.send('a', 'b', text(`${i}`));
  await time.advance(100);
  const { stats } = net;
  assert.ok(Math.abs(stats.lost / 2000 - 0.2) < 0.03 && Math.abs(stats.doubled / 2000 - 0.08) < 0.03);
  assert.equal(stats.delivered, 2000 - stats.lost + stats.doubled);
  assert.equal(log.length, stats.delivered);
  const order = log.map((l) => Number(l.split(' ')[3]));
  assert.ok(order.some((x, i) => i > 0 && x < order[i - 1]));
});

test('a cut is one way, and loses what is under way even if it heals in time', async () => {
  const { time, net, log } = setup(['a', 'b']);
  net.send('a', 'b', text('under way'));
  await time.advance(5);
  net.cut('a', 'b');
  net.send('b', 'a', text('other way'));
  net.heal('a', 'b');
  net.send('a', 'b', text('after'));
  await time.advance(20);
  assert.deepEqual(log, ['15.000 a got other way from b', '15.000 b got after from a']);
});

test('a session keeps order whatever the delays, and delivers once', async () => {
  const jitter: LinkFaults = { ...CALM, delay: { kind: 'uniform', min: 0, max: 40 }, loss: 0.2, duplication: 0.5 };
  const { time, net, log, connect } = setup(['a', 'b'], 9, jitter);
  net.faults = { ...jitter, delay: { kind: 'fixed', ms: 1 } };
  const s = await connect('a', 'b');
  net.faults = jitter;
  for (let i = 0; i < 300; i++) {
    s.send(text(`${i}`));
    if (i % 10 === 0) await time.advance(0.7);
  }
  await time.advance(30_000);
  assert.deepEqual(
    log.map((l) => Number(l.split(' ')[3])),
    Array.from({ length: 300 }, (_, i) => i),
  );
});

test('what the far end sends at once comes after the connection is open', async () => {
  const { time, net, log, attach } = setup(['a']);
  net.add('b', {
    onSession: (s) => {
      s.handler = { onMessage() {}, onBreak() {} };
      s.send(text('hello'));
    },
  });
  net.connect('a', 'b', (s) => attach('a', s!));
  await time.advance(100);
  assert.deepEqual(log, ['20.000 a got hello']);
});

test('a session over a cut loses what is under way, delivers nothing after it, and breaks at both ends', async () => {
  const { time, net, log, connect, sessions } = setup(['a', 'b']);
  const s = await connect('a', 'b');
  s.send(text('one'));
  await time.advance(20);
  s.send(text('two'));
  await time.advance(5);
  net.cut('a', 'b');
  net.heal('a', 'b');
  s.send(text('three'));
  sessions.get('b')![0].send(text('back'));
  await time.advance(CUT_NOTICE_MS + 100);
  assert.deepEqual(
    log.map((l) => l.split(' ').slice(1).join(' ')),
    ['b got one', 'a got back', 'a broke', 'b broke'],
  );
  assert.equal(s.send(text('four')), false);
});

test('an idle session outlives a cut', async () => {
  const { time, net, log, connect } = setup(['a', 'b']);
  const s = await connect('a', 'b');
  net.partition(['a'], ['b']);
  await time.advance(60_000);
  net.healAll();
  s.send(text('still here'));
  await time.advance(20);
  assert.equal(log.length, 1);
  assert.ok(s.isOpen);
});

test('connecting: refused where nobody is, timed out over a cut', async () => {
  const { time, net } = setup(['a', 'b']);
  const got: string[] = [];
  const connect = (to: string) => net.connect('a', to, (s) => got.push(`${time.monotonic()} ${to} ${s !== null}`));
  connect('nobody');
  await time.advance(100);
  net.cut('b', 'a');
  connect('b');
  await time.advance(CUT_NOTICE_MS * 3);
  assert.deepEqual(got, ['20 nobody false', `${120 + CUT_NOTICE_MS} b false`]);
});

test('a clogged link holds everything back, in order', async () => {
  const { time, net, log, connect } = setup(['a', 'b']);
  const s = await connect('a', 'b');
  net.clog('a', 'b');
  s.send(text('1'));
  net.send('a', 'b', text('2'));
  await time.advance(1000);
  assert.deepEqual(log, []);
  net.unclog('a', 'b');
  s.send(text('3'));
  await time.advance(10);
  assert.deepEqual(log, ['1050.000 b got 1', '1050.000 b got 2 from a', '1060.000 b got 3']);
  net.clog('a', 'b');
  s.send(text('4'));
  await time.advance(20);
  net.cut('a', 'b');
  net.healAll();
  await time.advance(CUT_NOTICE_MS + 10);
  assert.equal(s.isOpen, false, 'what a clog held back is lost by a cut');
});

test('a paused node gets nothing until it goes on, then everything in order', async () => {
  const { time, net, log, connect } = setup(['a', 'b']);
  const s = await connect('a', 'b');
  net.pause('b');
  for (const m of ['1', '2', '3']) s.send(text(m));
  await time.advance(30_000);
  assert.ok(s.isOpen && log.length === 0);
  net.resume('b');
  await time.advance(0);
  assert.equal(log.map((l) => l.at(-1)).join(''), '123');
});

test('what a node had not got out when it was stopped goes out when it goes on', async () => {
  const { time, net, log, connect } = setup(['a', 'b']);
  const s = await connect('a', 'b');
  s.send(text('1'));
  net.pause('a');
  await time.advance(30_000);
  assert.ok(s.isOpen && log.length === 0);
  net.resume('a');
  await time.advance(0);
  assert.equal(log.map((l) => l.at(-1)).join(''), '1');
});

test('a node that dies breaks its sessions, and its successor gets none of what was for it', async () => {
  const { time, net, log, connect, start } = setup(['a', 'b']);
  const s = await connect('a', 'b');
  s.send(text('for the dead'));
  net.remove('b');
  start('b');
  await time.advance(100);
  assert.deepEqual(log, ['60.000 a broke']);
  assert.ok(!s.isOpen);
  await connect('a', 'b');
  net.reset('a', 'b');
  assert.equal(log.length, 3, 'a reset breaks both ends');
});

test('breakage breaks sessions by chance', async () => {
  const { time, net, connect } = setup(['a', 'b'], 4, { ...FIXED, breakage: 0.05 });
  const s = await connect('a', 'b');
  let sent = 0;
  while (s.isOpen && sent < 1000) {
    s.send(text('x'));
    sent++;
    await time.advance(1);
  }
  assert.ok(sent < 200, `${sent}`);
  assert.equal(net.stats.broken, 2);
});
