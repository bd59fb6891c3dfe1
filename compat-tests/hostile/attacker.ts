/**
 * A socket that sends whatever it is told, in whatever pieces, and keeps what comes back: for clients that break the
 * protocol, stop half-way, or don't read.
 */
import assert from 'node:assert/strict';
import { connect, type Socket } from 'node:net';
import { Pipeline } from '../durability/pipeline.ts';
import { type Server, sleep } from '../durability/server.ts';

export const MB = 1024 * 1024;

export class Attacker {
  readonly socket: Socket;
  /** What came back, unless `onData` took it. */
  received = '';
  ended = false;
  onData: ((chunk: Buffer) => void) | null = null;

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.setNoDelay(true);
    socket.on('error', () => {});
    socket.on('data', (chunk: Buffer) => {
      if (this.onData) this.onData(chunk);
      else this.received += chunk.latin1Slice();
    });
    // an end is all that is needed: the server may keep its half open no longer than that
    socket.on('end', () => {
      this.ended = true;
    });
    socket.on('close', () => {
      this.ended = true;
    });
  }

  static connect(port: number): Promise<Attacker> {
    return new Promise((resolve, reject) => {
      const socket = connect({ host: '127.0.0.1', port, allowHalfOpen: true });
      socket.once('error', reject);
      socket.once('connect', () => {
        socket.removeListener('error', reject);
        resolve(new Attacker(socket));
      });
    });
  }

  /** Resolves when the system has taken the bytes. */
  write(bytes: string | Buffer): Promise<void> {
    return new Promise((resolve) => {
      this.socket.write(typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes, () => resolve());
    });
  }

  /** Waits until `done`, or fails with `what`. */
  async until(done: () => boolean, what: string, timeoutMs = 5000): Promise<void> {
    const deadline = Date.now() + timeoutMs;
    while (!done()) {
      if (Date.now() > deadline)
        assert.fail(`${what}: not within ${timeoutMs} ms; received ${JSON.stringify(this.received.slice(0, 200))}`);
      await sleep(5);
    }
  }

  /** Sends bytes that must be the connection's last, and resolves with what was said to them. */
  async dies(bytes: string | Buffer): Promise<string> {
    await this.write(bytes);
    await this.until(() => this.ended, `hanging up on ${JSON.stringify(String(bytes).slice(0, 60))}`);
    this.socket.destroy();
    return this.received;
  }

  close(): void {
    this.socket.destroy();
  }
}

let fresh = 0;

/** A client that comes after the attack is served, and soon. Resolves with the ms that it took. */
export async function isServed(server: Server): Promise<number> {
  assert.equal(server.child.exitCode, null, server.output.slice(-2000));
  const began = performance.now();
  const client = await Pipeline.connect(server.port);
  const key = `fresh:${fresh++}`;
  assert.equal(await client.call('PING'), '+PONG\r\n');
  assert.equal(await client.call('SET', key, 'value'), '+OK\r\n');
  assert.equal(await client.call('GET', key), '$5\r\nvalue\r\n');
  client.close();
  const took = performance.now() - began;
  assert.ok(took < 1000, `a fresh client waited ${took.toFixed(0)} ms`);
  return took;
}
