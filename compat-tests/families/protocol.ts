// The wire itself: inline commands, framing errors, pipelines, bytes that are no text.

import {
  dripped,
  type Family,
  pipelined,
  quiet,
  raw,
  rawUntilClosed,
  type Sequence,
  sequence,
} from '../lib/sequence.ts';

function closing(name: string, bytes: string | Buffer): Sequence {
  return sequence(name, [rawUntilClosed(bytes)]);
}

const COMMAND = '*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$7\r\na\r\nb\x00c\xff\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\nPING\r\n';

export const protocol: Family = {
  name: 'protocol',
  sequences: [
    sequence('inline commands', [
      raw('PING\r\n', 1),
      raw('PING\n', 1),
      raw('ping hello\r\n', 1),
      raw('   PING   \r\n', 1),
      raw('\tPING\t\r\n', 1),
      raw('SET k v\r\nGET k\r\n', 2),
      raw('SET k "hello world"\r\nGET k\r\n', 2),
      raw("SET k 'it \\'s'\r\nGET k\r\n", 2),
      raw('SET k "\\x00\\xff\\n\\t\\"\\\\"\r\nGET k\r\n', 2),
      raw('SET k ""\r\nGET k\r\n', 2),
      raw("SET k ''\r\nSTRLEN k\r\n", 2),
      raw('SET k "\\xZZ\\q"\r\nGET k\r\n', 2),
      raw("SET k '\\n\\x41'\r\nGET k\r\n", 2),
      raw('SET k a"b"\r\nPING\r\n', 1),
    ]),
    closing('inline: unbalanced double quotes', 'SET k "abc\r\nPING\r\n'),
    closing('inline: unbalanced single quotes', "SET k 'abc\r\nPING\r\n"),
    closing('inline: text after a closing quote', 'SET k "abc"d\r\nPING\r\n'),
    closing('inline: quotes inside a word', 'SET k a"b c"\r\nQUIT\r\n'),
    sequence('inline: empty lines are ignored', [
      raw('\r\n\r\n\nPING\r\n', 1),
      raw('    \r\nPING\r\n', 1),
      raw('\r\n', 0),
      'PING',
    ]),
    sequence('inline: unknown and wrong', [
      raw('NOSUCH a b\r\n', 1),
      raw('GET\r\n', 1),
      raw('GET a b\r\n', 1),
      raw('$3\r\n', 1),
      raw('+OK\r\n', 1),
      raw('\x00\r\nPING\r\n', 0),
      quiet(),
    ]),
    closing('inline: too long, without an end', 'A'.repeat(65600)),
    closing('inline: just short enough', `PING ${'A'.repeat(60000)}\r\nQUIT\r\n`),
    sequence('byte by byte', [dripped(COMMAND, 3), 'PING']),
    sequence(
      'split in two at every byte',
      Array.from({ length: COMMAND.length - 1 }, (_, i) => dripSplit(i + 1)),
    ),
    sequence('empty commands', [
      raw('*0\r\nPING\r\n', 1),
      raw('*-1\r\nPING\r\n', 1),
      raw('*-10\r\nPING\r\n', 1),
      raw('*0\r\n*0\r\n*1\r\n$4\r\nPING\r\n', 1),
      raw('*1\r\n$0\r\n\r\n', 1),
    ]),
    closing('multibulk length is no number', '*x\r\nPING\r\n'),
    closing('multibulk length is empty', '*\r\nPING\r\n'),
    closing('multibulk length has a space', '* 1\r\n$4\r\nPING\r\n'),
    closing('multibulk length has a plus', '*+1\r\n$4\r\nPING\r\n'),
    closing('multibulk length is a fraction', '*1.5\r\n$4\r\nPING\r\n'),
    closing('multibulk length is too large', '*2147483648\r\n'),
    closing('multibulk length is past 64 bits', '*20000000000000000000\r\n'),
    closing('multibulk length never ends', `*${'1'.repeat(65600)}`),
    closing('bulk length is no number', '*1\r\n$x\r\nPING\r\n'),
    closing('bulk length is negative', '*1\r\n$-1\r\nPING\r\n'),
    closing('bulk length is empty', '*1\r\n$\r\nPING\r\n'),
    closing('bulk length is too large', '*1\r\n$536870913\r\n'),
    closing('bulk length is past 64 bits', '*2\r\n$3\r\nGET\r\n$20000000000000000000\r\n'),
    closing('bulk length never ends', `*1\r\n$${'1'.repeat(65600)}`),
    closing('a bulk without its dollar', '*1\r\nPING\r\n'),
    closing('a bulk that is an integer', '*2\r\n$4\r\nPING\r\n:5\r\n'),
    closing('a bulk that is an array', '*2\r\n$4\r\nPING\r\n*1\r\n'),
    closing('a bulk that begins with a control character', '*1\r\n\x01\r\n'),
    closing('good commands before a bad one are answered', '*1\r\n$4\r\nPING\r\nPING\r\n*1\r\n!\r\nPING\r\n'),
    closing('QUIT ends what follows it', '*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nQUIT\r\n*1\r\n$4\r\nPING\r\n'),
    sequence('a bulk longer than it says goes on as the next thing', [
      raw('*1\r\n$4\r\nPINGXX*1\r\n$4\r\nPING\r\n', 2),
    ]),
    sequence('a large value', [
      ['SET', 'k', Buffer.alloc(200_000, 'z')],
      'STRLEN k',
      'GETRANGE k 199990 -1',
      ['ECHO', Buffer.alloc(40_000, 'e')],
    ]),
    sequence('many arguments', [
      ['MSET', ...Array.from({ length: 4000 }, (_, i) => (i % 2 === 0 ? `k${i / 2}` : String(i)))],
      'DBSIZE',
      ['MGET', ...Array.from({ length: 2000 }, (_, i) => `k${i}`)],
      ['DEL', ...Array.from({ length: 2000 }, (_, i) => `k${i}`)],
    ]),
    sequence('pipelines of a thousand', [
      pipelined(
        '1000 × SET',
        Array.from({ length: 1000 }, (_, i) => ['SET', `key:${i}`, `value:${i}`]),
      ),
      pipelined(
        '1000 × GET',
        Array.from({ length: 1000 }, (_, i) => ['GET', `key:${i}`]),
      ),
      pipelined(
        '1000 × INCR',
        Array.from({ length: 1000 }, () => ['INCR', 'counter']),
      ),
      pipelined(
        '1000 mixed',
        Array.from({ length: 1000 }, (_, i) => [['PING'], ['GET', 'missing'], ['INCR', 'key:0'], ['NOSUCH']][i % 4]),
      ),
      raw('PING\r\n'.repeat(1000), 1000),
    ]),
    sequence('keys and values are bytes', [
      [
        'SET',
        Buffer.from(Array.from({ length: 256 }, (_, i) => i)),
        Buffer.from(Array.from({ length: 256 }, (_, i) => 255 - i)),
      ],
      ['GET', Buffer.from(Array.from({ length: 256 }, (_, i) => i))],
      ['STRLEN', Buffer.from(Array.from({ length: 256 }, (_, i) => i))],
      'KEYS *',
      ['SET', 'é', 'ü€😀'],
      ['GET', 'é'],
      ['STRLEN', 'é'],
      ['SET', Buffer.from([0xc3]), 'half a character'],
      ['GET', Buffer.from([0xc3])],
      ['GET', Buffer.from([0xc3, 0xa9])],
      ['EXISTS', Buffer.from([0xef, 0xbf, 0xbd])],
    ]),
    sequence('names of commands are bytes too', [
      [Buffer.from('PI\x00NG')],
      [Buffer.from([0xff, 0xfe])],
      ['PING\r\n'],
      [''],
      // not with the NUL behind a name: Redis compares up to it, when the two happen to share a bucket of its table
      ['\x00GET', 'k'],
    ]),
  ],
};

function dripSplit(at: number) {
  const bytes = Buffer.from(COMMAND, 'latin1');
  const whole = raw(bytes, 3);
  return {
    ...whole,
    label: `split at byte ${at}`,
    run: async (connection: Parameters<typeof whole.run>[0], saved: Parameters<typeof whole.run>[1]) => {
      await connection.flush(bytes.subarray(0, at));
      return raw(bytes.subarray(at), 3).run(connection, saved);
    },
  };
}
