/** TLS for clients and for the bus, with a throw-away authority made by `openssl`. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import * as tls from 'node:tls';
import { GrammeError } from '../base/errors.ts';
import { Bus } from '../cluster/bus.ts';
import type { Connection, TlsOptions } from '../ports/transport.ts';
import { QuietLog } from '../sim/quiet-log.ts';
import { systemClock, systemRandom, systemTimers } from './system.ts';
import { TcpTransport } from './tcp.ts';

const skip = spawnSync('openssl', ['version']).status === 0 ? false : 'there is no openssl here';
const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'gramme-tls-'));
after(() => fs.rmSync(dir, { recursive: true, force: true }));
const file = (name: string) => path.join(dir, name);
const openssl = (...args: string[]) => execFileSync('openssl', args, { cwd: dir, stdio: ['ignore', 'ignore', 'pipe'] });

function authority(name: string): void {
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', `${name}.key`];
  openssl('req', '-x509', ...key, '-out', `${name}.crt`, '-days', '2', '-subj', `/CN=${name}`);
}

function certificate(name: string, ca: string, pass?: string): void {
  const protect = pass === undefined ? ['-nodes'] : ['-passout', `pass:${pass}`];
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', ...protect, '-keyout', `${name}.key`];
  openssl('req', '-new', ...key, '-out', `${name}.csr`, '-subj', `/CN=${name}`);
  const sign = ['-CA', `${ca}.crt`, '-CAkey', `${ca}.key`, '-CAcreateserial', '-days', '2'];
  openssl('x509', '-req', '-in', `${name}.csr`, ...sign, '-out', `${name}.crt`);
}

if (!skip) {
  authority('ca');
  authority('stranger-ca');
  certificate('server', 'ca');
  certificate('client', 'ca');
  certificate('locked', 'ca', 'open sesame');
  certificate('stranger', 'stranger-ca');
}

const of = (name: string, more: Partial<TlsOptions> = {}): TlsOptions => ({
  certFile: file(`${name}.crt`),
  keyFile: file(`${name}.key`),
  caFile: file('ca.crt'),
  ...more,
});

const transport = new TcpTransport();

/** Listens and sends everything back. */
async function echo(options: TlsOptions) {
  const accepted: Connection[] = [];
  const listener = await transport.listen({ host: '127.0.0.1', port: 0, tls: options }, (c) => {
    accepted.push(c);
    c.handler = {
      onData: (buf, start, end) => void c.write(Buffer.from(buf.subarray(start, end)), 0, end - start),
      onEnd: () => c.end(),
      onDrain() {},
      onClose() {},
    };
  });
  return { listener, accepted, port: Number(listener.address.split(':')[1]) };
}

/** What a client of that kind gets back for `ping`, or the word `refused`. */
function ping(port: number, options: tls.ConnectionOptions): Promise<string> {
  return new Promise((resolve) => {
    const socket = tls.connect({ host: '127.0.0.1', port, checkServerIdentity: () => undefined, ...options });
    socket.on('error', () => resolve('refused'));
    socket.on('close', () => resolve('refused'));
    socket.on('data', (d) => {
      resolve(`${d} ${socket.getProtocol()} ${socket.getCipher().name}`);
      socket.destroy();
    });
    socket.write('ping');
  });
}

const ca = () => fs.readFileSync(file('ca.crt'));
const identity = (name: string) => ({
  ca: ca(),
  cert: fs.readFileSync(file(`${name}.crt`)),
  key: fs.readFileSync(file(`${name}.key`)),
});

test('client certificates: needed, not needed, or good if shown', { skip }, async () => {
  const outcome: Record<string, string> = {};
  for (const authClients of ['yes', 'no', 'optional'] as const) {
    const { listener, port } = await echo(of('server', { authClients }));
    const answers = [
      await ping(port, identity('client')),
      await ping(port, { ca: ca() }),
      await ping(port, { ...identity('stranger') }),
    ];
    outcome[authClients] = answers.map((a) => a.split(' ')[0]).join(' ');
    await listener.close();
  }
  assert.deepEqual(outcome, {
    yes: 'ping refused refused',
    no: 'ping ping ping',
    optional: 'ping ping refused',
  });
});

test('an authority may come as a directory, and a key may have a passphrase', { skip }, async () => {
  const many = file('many');
  fs.mkdirSync(many);
  fs.copyFileSync(file('ca.crt'), path.join(many, 'ca.pem'));
  fs.copyFileSync(file('stranger-ca.crt'), path.join(many, 'other.pem'));
  fs.writeFileSync(path.join(many, 'README'), 'not a certificate');
  const tlsOptions = of('locked', { caFile: '', caDir: many, keyFilePass: 'open sesame' });
  const { listener, port } = await echo(tlsOptions);
  assert.match(await ping(port, identity('client')), /^ping/);
  assert.match(await ping(port, identity('stranger')), /^ping/);
  await listener.close();
});

test('protocols and ciphers are those that were asked for', { skip }, async () => {
  const asked = { authClients: 'no', protocols: 'TLSv1.2', ciphers: 'ECDHE-ECDSA-AES256-GCM-SHA384' } as const;
  const old = await echo(of('server', asked));
  assert.equal(await ping(old.port, { ca: ca() }), 'ping TLSv1.2 ECDHE-ECDSA-AES256-GCM-SHA384');
  assert.equal(await ping(old.port, { ca: ca(), minVersion: 'TLSv1.3' }), 'refused');
  await old.listener.close();
  const suites = {
    authClients: 'no',
    ciphersuites: 'TLS_CHACHA20_POLY1305_SHA256',
    preferServerCiphers: true,
  } as const;
  const both = await echo(of('server', suites));
  assert.equal(await ping(both.port, { ca: ca() }), 'ping TLSv1.3 TLS_CHACHA20_POLY1305_SHA256');
  assert.match(await ping(both.port, { ca: ca(), maxVersion: 'TLSv1.2' }), /^ping TLSv1.2/);
  await both.listener.close();
});

test('settings that are no good are refused with what is wrong', { skip }, async () => {
  const refused = async (options: TlsOptions, pattern: RegExp) => {
    const error = await transport.listen({ host: '127.0.0.1', port: 0, tls: options }, () => {}).catch((e) => e);
    assert.ok(error instanceof GrammeError && error.code === 'CONFIG', String(error));
    assert.match(error.message, pattern);
  };
  await refused(of('server', { certFile: file('nothing') }), /tls-cert-file .*nothing/);
  await refused(of('server', { certFile: '' }), /tls-cert-file/);
  await refused(of('server', { caFile: '' }), /without a CA/);
  await refused(of('server', { caFile: '', caDir: file('none') }), /tls-ca-cert-dir/);
  await refused(of('server', { protocols: 'SSLv3' }), /tls-protocols/);
  await refused(of('server', { keyFile: file('client.key') }), /no good/);
  await refused(of('locked', { keyFilePass: 'wrong' }), /no good/);
  const options = { host: '127.0.0.1', port: 1, timeoutMs: 100, tls: of('server', { certFile: file('nothing') }) };
  const error = await transport.connect(options).catch((e) => e);
  assert.ok(error instanceof GrammeError && error.code === 'IO' && /nothing/.test(error.message));
});

test('an outgoing connection: what comes at once is not lost, and the other end must be known', { skip }, async () => {
  const listener = await transport.listen({ host: '127.0.0.1', port: 0, tls: of('server') }, (c) => {
    c.handler = { onData() {}, onEnd: () => c.end(), onDrain() {}, onClose() {} };
    c.write(Buffer.from('welcome'), 0, 7);
  });
  const port = Number(listener.address.split(':')[1]);
  for (let i = 0; i < 10; i++) {
    const c = await transport.connect({ host: '127.0.0.1', port, timeoutMs: 2000, tls: of('client') });
    const got = await new Promise<string>((resolve) => {
      c.handler = {
        onData: (buf, start, end) => resolve(buf.latin1Slice(start, end)),
        onEnd() {},
        onDrain() {},
        onClose: () => resolve('closed'),
      };
    });
    assert.equal(got, 'welcome');
    assert.equal(c.remote, `127.0.0.1:${port}`);
    c.destroy();
  }
  const wrong = of('client', { caFile: file('stranger-ca.crt') });
  await assert.rejects(transport.connect({ host: '127.0.0.1', port, timeoutMs: 2000, tls: wrong }), /certificate/);
  await listener.close();
  // somebody who never answers in TLS
  const plain = await transport.listen({ host: '127.0.0.1', port: 0 }, () => {});
  const silent = Number(plain.address.split(':')[1]);
  const dial = transport.connect({ host: '127.0.0.1', port: silent, timeoutMs: 100, tls: of('client') });
  await assert.rejects(dial, /no answer within 100 ms/);
  await plain.close();
});

test('the bus over TLS: links, frames, and nobody without a certificate', { skip }, async () => {
  const opened: Bus[] = [];
  const make = async (i: number, options: TlsOptions | null) => {
    const id = `${i}`.repeat(40);
    const refusals: string[] = [];
    const got: string[] = [];
    let address = '';
    const bus = new Bus({
      transport,
      clock: systemClock,
      timers: systemTimers,
      random: systemRandom,
      log: new QuietLog(),
      hello: () => ({ nodeId: id, clusterId: '', session: 1, bus: address, client: '' }),
      secret: 's',
      tls: options,
    });
    opened.push(bus);
    bus.onRefused = (_a, why) => void refusals.push(why);
    bus.onFrame = (_l, kind, buf, start, end) => void got.push(`${kind} ${end - start} ${buf[start]} ${buf[end - 1]}`);
    address = await bus.listen('127.0.0.1', 0);
    return { id, bus, refusals, got, address };
  };
  const until = async (condition: () => boolean) => {
    for (let i = 0; !condition(); i++) {
      assert.ok(i < 1000, 'never happened');
      await sleep(5);
    }
  };
  try {
    const a = await make(1, of('server', { authClients: 'no' }));
    const b = await make(2, of('client', { authClients: 'no' }));
    a.bus.want(b.address);
    b.bus.want(a.address);
    await until(() => a.bus.link(b.id) !== null && b.bus.link(a.id) !== null);
    const payload = Buffer.alloc(300_000, 7);
    const sizes = Array.from({ length: 600 }, (_, i) => (i % 100 === 0 ? 300_000 : 1 + i));
    for (const n of sizes) {
      assert.ok(a.bus.link(b.id)!.send(33, payload, 0, n));
      if (n % 7 === 0) await sleep(0);
    }
    await until(() => b.got.length === sizes.length);
    assert.deepEqual(
      b.got,
      sizes.map((n) => `33 ${n} 7 7`),
    );
    await until(() => a.bus.link(b.id)!.pending() === 0);
    const stranger = await make(3, of('stranger'));
    const plain = await make(4, null);
    stranger.bus.want(a.address);
    plain.bus.want(a.address);
    a.bus.want(plain.address);
    await until(() => stranger.refusals.length > 1 && plain.refusals.length > 1 && a.refusals.length > 1);
    assert.equal([...a.bus.links()].length, 1);
  } finally {
    await Promise.all(opened.map((bus) => bus.close()));
  }
});
