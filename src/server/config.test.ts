import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { GrammeError } from '../base/errors.ts';
import { Config, parseArguments, parseConfigText, type Setting } from './config.ts';
import { DIRECTIVES } from './directives.ts';

const none = (path: string): string => {
  throw new Error(`no ${path}`);
};
const read = (text: string) => new Config(parseConfigText(text, none, 'test.conf'));

function refused(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    assert.ok(error instanceof GrammeError && error.code === 'CONFIG', String(error));
    return error.message;
  }
  assert.fail('nothing was refused');
}

const example = readFileSync(new URL('../../conf/gramme.conf', import.meta.url), 'utf8');

test('every default is canonical', () => {
  for (const d of DIRECTIVES) {
    const parsed = d.schema.safeParse(d.initial);
    assert.ok(parsed.success, `${d.name}: ${parsed.error?.message}`);
    assert.equal(d.merge?.('', parsed.data, false) ?? parsed.data, d.initial, d.name);
  }
  const names = DIRECTIVES.flatMap((d) => [d.name, ...d.aliases]);
  assert.equal(new Set(names).size, names.length);
});

test('the example file has every directive with its default and its sentence, and nothing else', () => {
  const known = new Map(DIRECTIVES.map((d) => [d.name, d]));
  const documented = new Map<string, { about: string; settings: string[] }>();
  let about: string[] = [];
  for (const line of [...example.split('\n'), '']) {
    const setting = /^#?([a-z][a-z-]*) (.*)$/.exec(line);
    if (setting !== null && known.has(setting[1])) {
      const found = documented.get(setting[1]) ?? { about: about.join(' '), settings: [] };
      found.settings.push(`${setting[1]} ${setting[2]}`);
      documented.set(setting[1], found);
    } else if (line.startsWith('# ')) about.push(line.slice(2).trim());
    else if (line === '') about = [];
    else if (line !== '#') assert.fail(`not a directive: ${line}`);
  }
  for (const d of DIRECTIVES) {
    const found = documented.get(d.name);
    assert.ok(found !== undefined, `conf/gramme.conf lacks ${d.name}`);
    const also = d.aliases.length > 0 ? ` (Also: ${d.aliases.join(', ')}.)` : '';
    assert.equal(found.about, d.about + also, d.name);
    if (d.name === 'dir') continue;
    const value = read(found.settings.join('\n')).get(d.name);
    assert.equal(value, d.initial, `the example's ${d.name} is not its default`);
  }
});

test('the example file serves this machine, with its data beside it', () => {
  const config = read(example);
  assert.equal(config.get('bind'), '127.0.0.1 -::1');
  assert.equal(config.num('port'), 6379);
  assert.equal(config.get('dir'), './data');
  for (const d of DIRECTIVES) if (d.name !== 'dir') assert.equal(config.get(d.name), d.initial);
});

test('values are read as Redis reads them', () => {
  const config = read(`
    # a comment
    PORT 7000
    bind 10.0.0.1   10.0.0.2
    requirepass "a b\\x41"
    maxmemory 1gb
    save 900 1
    save 300 10
    client-output-buffer-limit replica 1mb 2kb 3
    loglevel VERBOSE
    hash-max-ziplist-entries 7
    unixsocketperm 770
    notify-keyspace-events KEA
    list-max-ziplist-entries 3
  `);
  assert.equal(config.num('port'), 7000);
  assert.deepEqual(config.list('bind'), ['10.0.0.1', '10.0.0.2']);
  assert.equal(config.get('requirepass'), 'a bA');
  assert.equal(config.num('maxmemory'), 2 ** 30);
  assert.equal(config.get('save'), '900 1 300 10');
  assert.equal(
    config.get('client-output-buffer-limit'),
    'normal 0 0 0 slave 1048576 2048 3 pubsub 33554432 8388608 60',
  );
  assert.equal(config.get('loglevel'), 'verbose');
  assert.equal(config.num('hash-max-listpack-entries'), 7);
  assert.equal(config.get('unixsocketperm'), '770');
  assert.equal(config.get('notify-keyspace-events'), 'AKE');
});

test('what a stock redis.conf says but is not done is a warning', () => {
  const config = read('daemonize yes\nappendonly no\n');
  assert.equal(config.get('daemonize'), 'no');
  assert.equal(config.get('appendonly'), 'yes');
  assert.equal(config.warnings.length, 2);
});

test('errors in files name the line', () => {
  assert.equal(
    refused(() => read('port 1\n\nfoo bar')),
    "test.conf:3: 'foo bar': Bad directive or wrong number of arguments",
  );
  assert.match(
    refused(() => read('port 1 2')),
    /:1: 'port 1 2': wrong number of arguments$/,
  );
  assert.match(
    refused(() => read('port abc')),
    /argument couldn't be parsed into an integer$/,
  );
  assert.match(
    refused(() => read('port "1')),
    /Unbalanced quotes in configuration line$/,
  );
  assert.match(
    refused(() => read('maxmemory-policy allkeys-lru')),
    /only noeviction/,
  );
  assert.match(
    refused(() => read('replicaof 10.0.0.1 6379')),
    /cluster-seeds/,
  );
  assert.match(
    refused(() => read('loadmodule /x.so')),
    /there are no modules/,
  );
  assert.match(
    refused(() => read('include other.conf')),
    /can't read it: no other.conf/,
  );
  assert.match(
    refused(() => parseConfigText('include a', () => 'include a')),
    /too deep/,
  );
});

test('includes are read in place', () => {
  const files: Record<string, string> = { a: 'port 2\ntimeout 3', b: 'nope 1' };
  const config = new Config(parseConfigText('port 1\ninclude a\ntimeout 4', (p) => files[p], 'm'));
  assert.equal(config.num('port'), 2);
  assert.equal(config.num('timeout'), 4);
  assert.match(
    refused(() => new Config(parseConfigText('include b', (p) => files[p]))),
    /^b:1: 'nope 1'/,
  );
});

test('the command line is taken as redis-server takes it', () => {
  const said = (...argv: string[]) =>
    parseArguments(argv).settings.map(({ name, values }: Pick<Setting, 'name' | 'values'>) => [name, ...values]);
  assert.deepEqual(said('--port', '7000', '--bind', 'a', 'b'), [
    ['port', '7000'],
    ['bind', 'a', 'b'],
  ]);
  assert.deepEqual(said('--port 7000', '--dir', '/x y'), [
    ['port', '7000'],
    ['dir', '/x y'],
  ]);
  assert.deepEqual(said('--save', '', '--appendonly', 'yes'), [
    ['save', ''],
    ['appendonly', 'yes'],
  ]);
  assert.deepEqual(said('--save', '--appendonly', 'yes'), [
    ['save', ''],
    ['appendonly', 'yes'],
  ]);
  assert.deepEqual(said('--save'), [['save', '']]);
  assert.deepEqual(said('--requirepass', '--x'), [['requirepass', '--x']]);
  assert.equal(parseArguments(['x.conf', '--port', '1']).file, 'x.conf');
  assert.equal(parseArguments(['-']).file, '-');
  assert.equal(parseArguments(['--port', '1']).file, null);
  assert.ok(parseArguments(['--version']).version && parseArguments(['-h']).help);
  assert.match(
    refused(() => new Config(parseArguments(['--port', 'x']).settings)),
    /'--port' 'x': argument couldn't/,
  );
  const seeds = new Config(parseArguments(['--cluster-seeds', 'a:1 b:2']).settings);
  assert.deepEqual(seeds.list('cluster-seeds'), ['a:1', 'b:2']);
});

test('CONFIG SET refuses with the texts of Redis', () => {
  const config = new Config();
  const failed = (name: string, why: string) =>
    `ERR CONFIG SET failed (possibly related to argument '${name}') - ${why}`;
  const cases: [string, string, string][] = [
    ['maxclients', 'abc', "argument couldn't be parsed into an integer"],
    ['maxclients', '0', 'argument must be between 1 and 4294967295 inclusive'],
    ['timeout', '010', "argument couldn't be parsed into an integer"],
    ['maxmemory', '1x', 'argument must be a memory value'],
    ['databases', '3', "can't set immutable config"],
    ['dir', '/x', "can't set protected config"],
    ['appendfsync', 'xx', 'argument(s) must be one of the following: everysec, always, no'],
    ['lazyfree-lazy-expire', 'maybe', "argument must be 'yes' or 'no'"],
    ['save', '900', 'Invalid save parameters'],
    ['save', '0 1', 'Invalid save parameters'],
    ['notify-keyspace-events', 'Q', "Invalid event class character. Use 'Ag$lshzxeKEtmdn'."],
    ['client-output-buffer-limit', 'normal 1 2', 'Wrong number of arguments in buffer limit configuration.'],
    ['client-output-buffer-limit', 'norm 1 2 3', 'Invalid client class specified in buffer limit configuration.'],
    ['latency-tracking-info-percentiles', 'abc', 'Invalid latency-tracking-info-percentiles parameters'],
    [
      'latency-tracking-info-percentiles',
      '50 101',
      'latency-tracking-info-percentiles parameters should sit between [0.0,100.0]',
    ],
    ['shutdown-on-sigterm', 'save nosave', "shutdown options SAVE and NOSAVE can't be used simultaneously"],
    ['slowlog-log-slower-than', '-2', 'argument must be between -1 and 9223372036854775807 inclusive'],
  ];
  for (const [name, value, why] of cases) assert.equal(config.set([[name, value]]), failed(name, why));
  assert.equal(config.set([['nope', '1']]), "ERR Unknown option or number of arguments for CONFIG SET - 'nope'");
  assert.equal(
    config.set([
      ['hz', '1'],
      ['HZ', '2'],
    ]),
    failed('HZ', 'duplicate parameter'),
  );
});

test('CONFIG SET takes all pairs or none', () => {
  const config = new Config();
  assert.notEqual(
    config.set([
      ['timeout', '5'],
      ['maxclients', 'x'],
    ]),
    null,
  );
  assert.equal(config.num('timeout'), 0);
  assert.equal(
    config.set([
      ['timeout', '5'],
      ['maxclients', '6'],
    ]),
    null,
  );
  assert.equal(config.num('timeout') + config.num('maxclients'), 11);
  const heard: string[] = [];
  config.onChange('timeout', (c) => void heard.push(c.get('timeout')));
  config.onChange('maxclients', () => 'no sockets');
  assert.match(
    config.set([
      ['timeout', '7'],
      ['maxclients', '8'],
    ])!,
    /'maxclients'\) - no sockets$/,
  );
  assert.deepEqual(heard, ['7', '5']);
  assert.equal(config.num('maxclients'), 6);
});

test('aliases are the same directive', () => {
  const config = new Config();
  assert.equal(
    config.set([
      ['lua-time-limit', '6'],
      ['busy-reply-threshold', '7'],
    ]),
    null,
  );
  assert.equal(config.get('lua-time-limit'), '7');
  assert.deepEqual(config.match(['hash-max-*-value']), [
    ['hash-max-listpack-value', '64'],
    ['hash-max-ziplist-value', '64'],
  ]);
  assert.deepEqual(config.match(['MAXCLIENTS', 'nope', 'maxcl*']), [
    ['MAXCLIENTS', '10000'],
    ['maxclients', '10000'],
  ]);
});

test('CONFIG REWRITE keeps lines and comments, and adds what is new', () => {
  const old = '# mine\nport 7000\n\ninclude x.conf\nmaxmemory 100\nsave 1 2\nsave 3 4\n';
  const config = new Config(parseConfigText(old, () => '', 'f'));
  config.set([
    ['maxmemory', '2gb'],
    ['timeout', '9'],
    ['requirepass', 'a "b" c'],
    ['save', '5 6'],
  ]);
  const text = config.rewrite(old);
  assert.equal(
    text,
    '# mine\nport 7000\n\ninclude x.conf\nmaxmemory 2gb\nsave 5 6\n# Generated by CONFIG REWRITE\ntimeout 9\nrequirepass "a \\"b\\" c"\n',
  );
  const again = new Config(parseConfigText(text, () => '', 'f'));
  for (const d of DIRECTIVES) assert.equal(again.get(d.name), config.get(d.name), d.name);
  assert.equal(again.rewrite(text), text);
});
