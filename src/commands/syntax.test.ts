import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Argument, parseSyntax, plainSyntax } from './syntax.ts';

const token = (t: string): Argument => ({ name: t.toLowerCase(), type: 'pure-token', token: t });

test('names get the types of their kind', () => {
  assert.deepEqual(parseSyntax('key value increment:double ip:port pattern'), [
    { name: 'key', type: 'key', keySpec: 0 },
    { name: 'value', type: 'string' },
    { name: 'increment', type: 'double' },
    { name: 'ip:port', type: 'string' },
    { name: 'pattern', type: 'pattern' },
  ]);
  assert.deepEqual(parseSyntax(''), []);
  assert.deepEqual(parseSyntax('key', 0), [{ name: 'key', type: 'key' }]);
});

test('options and choices', () => {
  assert.deepEqual(parseSyntax('key value [NX | XX] [GET] [EX seconds | PX milliseconds | KEEPTTL]').slice(2), [
    { name: 'condition', type: 'oneof', arguments: [token('NX'), token('XX')], optional: true },
    { ...token('GET'), optional: true },
    {
      name: 'expiration',
      type: 'oneof',
      optional: true,
      arguments: [
        { name: 'seconds', type: 'integer', token: 'EX' },
        { name: 'milliseconds', type: 'integer', token: 'PX' },
        token('KEEPTTL'),
      ],
    },
  ]);
  assert.deepEqual(parseSyntax('<LEFT | RIGHT>'), [
    { name: 'where', type: 'oneof', arguments: [token('LEFT'), token('RIGHT')] },
  ]);
  assert.deepEqual(parseSyntax('[AGGREGATE <SUM | MIN | MAX>]'), [
    {
      name: 'aggregate',
      type: 'oneof',
      arguments: [token('SUM'), token('MIN'), token('MAX')],
      token: 'AGGREGATE',
      optional: true,
    },
  ]);
});

test('repetition', () => {
  assert.deepEqual(parseSyntax('key [key ...]'), [{ name: 'key', type: 'key', keySpec: 0, multiple: true }]);
  assert.deepEqual(parseSyntax('destkey key [key ...]', 2), [
    { name: 'destkey', type: 'key', keySpec: 0 },
    { name: 'key', type: 'key', keySpec: 1, multiple: true },
  ]);
  assert.deepEqual(parseSyntax('key value [key value ...]'), [
    {
      name: 'key_value',
      type: 'block',
      multiple: true,
      arguments: [
        { name: 'key', type: 'key', keySpec: 0 },
        { name: 'value', type: 'string' },
      ],
    },
  ]);
  assert.deepEqual(parseSyntax('[GET pattern [GET pattern ...]]'), [
    { name: 'pattern', type: 'pattern', token: 'GET', multiple: true, multipleToken: true, optional: true },
  ]);
  assert.deepEqual(parseSyntax('[section [section ...]]'), [
    { name: 'section', type: 'string', multiple: true, optional: true },
  ]);
  assert.equal(parseSyntax('<[A a] | [B b]> [...]')[0].multiple, true);
  assert.equal(parseSyntax('[GET a | SET b ...]')[0].multiple, true);
  assert.deepEqual(parseSyntax('STREAMS key [key ...] id [id ...]'), [
    {
      name: 'key_id',
      type: 'block',
      token: 'STREAMS',
      arguments: [
        { name: 'key', type: 'key', keySpec: 0, multiple: true },
        { name: 'id', type: 'string', multiple: true },
      ],
    },
  ]);
});

test('brackets in brackets, and blocks', () => {
  assert.deepEqual(
    parseSyntax('[start [end [BYTE | BIT]]]'),
    [
      {
        name: 'start_end',
        type: 'block',
        optional: true,
        arguments: [
          { name: 'start', type: 'integer' },
          {
            name: 'end_unit',
            type: 'block',
            optional: true,
            arguments: [
              { name: 'end', type: 'integer' },
              { name: 'unit', type: 'oneof', arguments: [token('BYTE'), token('BIT')], optional: true },
            ],
          },
        ],
      },
    ].map((a) => ({ ...a, name: 'start_end_unit' })),
  );
  assert.deepEqual(parseSyntax('[LIMIT offset count]'), [
    {
      name: 'offset_count',
      type: 'block',
      token: 'LIMIT',
      optional: true,
      arguments: [
        { name: 'offset', type: 'integer' },
        { name: 'count', type: 'integer' },
      ],
    },
  ]);
  assert.deepEqual(
    parseSyntax('<host port | NO ONE>')[0].arguments!.map((a) => a.type),
    ['block', 'block'],
  );
});

test('mistakes are found', () => {
  for (const bad of ['[key', 'key]', '<A | B', 'A | B', 'key ...']) assert.throws(() => parseSyntax(bad), bad);
});

test('types are for the parser alone', () => {
  assert.equal(plainSyntax('key increment:double [ADDR ip:port]'), 'key increment [ADDR ip:port]');
});
