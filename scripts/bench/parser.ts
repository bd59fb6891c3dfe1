/**
 * The request parser beside `redis-parser`, on the same bytes: pipelines of SET with 100-byte values, in chunks of 64 KB,
 * with the key and the value taken out as strings.
 *   node --import tsx scripts/bench/parser.ts
 */
import { performance } from 'node:perf_hooks';
import RedisParser from 'redis-parser';
import { Argv } from '../../src/resp/argv.ts';
import { RequestParser } from '../../src/resp/parser.ts';

const COMMANDS = 400;
const ROUNDS = 2000;
const value = 'x'.repeat(100);
const chunk = Buffer.from(
  Array.from({ length: COMMANDS }, (_, i) => `*3\r\n$3\r\nSET\r\n$9\r\nkey:${10000 + i}\r\n$100\r\n${value}\r\n`).join(
    '',
  ),
);

function ours(): number {
  const parser = new RequestParser();
  const argv = new Argv();
  let taken = 0;
  for (let round = 0; round < ROUNDS; round++) {
    for (let at = 0; at < chunk.length; ) {
      at = parser.next(argv, chunk, at, chunk.length);
      taken += argv.str(1).length + argv.str(2).length;
    }
  }
  return taken;
}

function theirs(): number {
  let taken = 0;
  const parser = new RedisParser({
    returnReply: (reply: Buffer[]) => {
      taken += reply[1].latin1Slice().length + reply[2].latin1Slice().length;
    },
    returnError: () => {},
    returnBuffers: true,
  });
  for (let round = 0; round < ROUNDS; round++) parser.execute(chunk);
  return taken;
}

for (const [name, run] of [
  ['ours', ours],
  ['redis-parser', theirs],
  ['ours', ours],
  ['redis-parser', theirs],
] as const) {
  const started = performance.now();
  run();
  const seconds = (performance.now() - started) / 1000;
  console.log(`${name.padEnd(14)} ${Math.round((COMMANDS * ROUNDS) / seconds).toLocaleString('en')} commands/s`);
}
