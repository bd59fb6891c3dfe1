/** What a client may conclude from what it hears, or doesn't. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SimClient } from './client.ts';
import { CALM, SimNetwork } from './network.ts';
import { SeededRandom } from './random.ts';
import { NodeTime, VirtualTime } from './time.ts';
import { SimTransport } from './transport.ts';

/** A server that answers each request with the next of these; null for silence, CLOSE for closing. */
const CLOSE = 'close';

async function setup(replies: (string | null)[]) {
  const time = new VirtualTime();
  const network = new SimNetwork(time, 1, { ...CALM, delay: { kind: 'fixed', ms: 2 } });
  const own = new NodeTime(time);
  const transport = new SimTransport(network, 's', own, new SeededRandom(1));
  let got = '';
  let connections = 0;
  const listening = transport.listen({ port: 1 }, (connection) => {
    connections++;
    connection.handler = {
      onData: (buf, start, end) => {
        got += buf.latin1Slice(start, end);
        // one reply a whole command: all end in PING
        if (!got.endsWith('PING\r\n')) return;
        got += '|';
        const reply = replies.shift();
        if (reply === CLOSE) connection.destroy();
        else if (reply != null) {
          const bytes = Buffer.from(reply, 'latin1');
          connection.write(bytes, 0, bytes.length);
        }
      },
      onEnd: () => connection.end(),
      onDrain: () => {},
      onClose: () => {},
    };
  });
  await time.until(listening, 10);
  const client = new SimClient(network, time, 'c', 7);
  const ping = (timeoutMs = 100) => time.until(client.call('s:1', ['PING'], timeoutMs), 20_000);
  return { time, network, ping, connections: () => connections };
}

test('replies are ok; errors are sure, or leave doubt', async () => {
  const { ping, connections } = await setup([
    '+OK\r\n',
    ':5\r\n',
    '$-1\r\n',
    '*2\r\n$1\r\nt\r\n*1\r\n$2\r\nv1\r\n',
    '-WRONGTYPE no\r\n',
    '-ERR value is not an integer\r\n',
    '-NOREPLICAS it may still surface\r\n',
    '-TRYAGAIN\r\n',
    '-ERR internal error: x\r\n',
  ]);
  const reply = async () => {
    const outcome = await ping();
    return outcome.kind === 'ok' ? outcome.reply : outcome.kind;
  };
  assert.deepEqual([await reply(), await reply(), await reply(), await reply()], ['OK', 5, null, ['t', ['v1']]]);
  assert.deepEqual([await reply(), await reply()], ['error', 'error']);
  assert.deepEqual([await reply(), await reply(), await reply()], ['unknown', 'unknown', 'unknown']);
  assert.equal(connections(), 1);
});

test('silence and lost connections leave doubt, and the next command has a connection of its own', async () => {
  const { ping, connections } = await setup([null, CLOSE, '+OK\r\n']);
  assert.deepEqual(await ping(), { kind: 'unknown', message: 'no reply in time' });
  assert.deepEqual(await ping(), { kind: 'unknown', message: 'connection lost' });
  assert.deepEqual(await ping(), { kind: 'ok', reply: 'OK' });
  assert.equal(connections(), 3);
});

test('what was never sent did not happen', async () => {
  const { ping, network } = await setup([]);
  network.remove('s');
  const outcome = await ping();
  assert.ok(outcome.kind === 'error' && /not sent/.test(outcome.message));
});
