/**
 * Long doubles against a real server: each sum was read off Redis 7.0.15 on x86-64 (`SET k a`, `INCRBYFLOAT k b`),
 * whose `long double` has the 64-bit mantissa that replicas must agree on. To add a line, ask Redis, not this code.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  addLongDouble,
  formatLongDouble,
  isInfinite,
  type LongDouble,
  negateLongDouble,
  parseLongDouble,
} from './longdouble.ts';

/** a, b, what `INCRBYFLOAT` answered. */
const SUMS: readonly [string, string, string][] = [
  ['0.1', '0.2', '0.3'],
  ['10.5', '0.1', '10.6'],
  ['5.0e3', '2.0e2', '5200'],
  ['3.0e-3', '1e-5', '0.00301'],
  ['1e17', '1', '100000000000000001'],
  ['1e18', '0.5', '1000000000000000000.5'],
  ['9223372036854775807', '1', '9223372036854775808'],
  ['18446744073709551615', '1', '18446744073709551616'],
  ['123456789.123456789', '0.000000001', '123456789.12345678999554366'],
  ['0', '1e-17', '0.00000000000000001'],
  ['0', '1e-18', '0'],
  ['0', '5e-18', '0'],
  ['0', '0.3', '0.3'],
  ['-0.5', '0.5', '0'],
  ['-1', '0.9', '-0.1'],
  ['1', '-1.00000000000000001', '-0.00000000000000001'],
  ['3', '-0', '3'],
  ['1.1', '2.2', '3.3'],
  [
    '1e300',
    '1e300',
    '2000000000000000000017994648159118387741047888546581495876520164642531293192361871511698304167500994380700745017228549671807185112369345967826192521041497292574654271283687306588168510215212033579453305864740061102765895241989080589545563779241212358535223254194821301134374772211380178849830208012288',
  ],
  ['0.1', '0.7', '0.8'],
  ['2.675', '0', '2.675'],
  ['1.005', '0', '1.005'],
  ['100', '-99.99', '0.01'],
  ['1e21', '1e-5', '1000000000000000000000'],
  ['.5', '5.', '5.5'],
  ['+1', '+2', '3'],
  ['1e+2', '1E2', '200'],
  ['4503599627370497.5', '0.25', '4503599627370497.75'],
  ['9007199254740993', '0', '9007199254740993'],
  ['0.000001', '0.0000001', '0.0000011'],
  ['12345678901234567890', '0.1', '12345678901234567890'],
  ['1e-17', '1e-17', '0.00000000000000002'],
  ['1.000000000000000005', '0', '1'],
  ['1.000000000000000015', '0', '1.00000000000000001'],
  ['36893488147419103232', '1', '36893488147419103232'],
  ['36893488147419103233', '0', '36893488147419103232'],
  ['-36893488147419103235', '0', '-36893488147419103236'],
  ['0.1', '0.1', '0.2'],
  ['0.30000000000000004', '0.6', '0.90000000000000004'],
  ['1e15', '0.3', '1000000000000000.29998779296875'],
  ['1e5', '1e-16', '100000'],
  ['99999999999999999.9', '0.1', '100000000000000000'],
  ['3.14159265358979323846', '2.71828182845904523536', '5.85987448204883847'],
  [
    '1.7976931348623157e308',
    '1.7976931348623157e308',
    '359538626972463139991842093548208868096772893888658356970628841530353257046248792709403737216774171128857586838851041378617416726902272110715794556052955234146997955372576789671236326588091188869859074894581254961338834769297758245552436667197907705664206565009503223382416235440319971852753604933726679072768',
  ],
  ['-3.5', '3.5', '0'],
  ['-0', '0', '0'],
  ['-1e-20', '0', '0'],
  ['00012', '1', '13'],
  ['1e0', '1e00', '2'],
  ['5e-324', '0', '0'],
  ['7', '-7.00000000000000000001', '0'],
];

/** Sums of thousands of digits: a, b, how many digits, and their SHA-1. */
const LONG: readonly [string, string, number, string][] = [
  ['1e1000', '1', 1000, '1eb43e8381ccf9a1882f6b705cf612d62e41717c'],
  ['1e4000', '1e4000', 4001, '124fd9ca598e08bbe08c7210a35bd0c77d97abaf'],
  ['1e4931', '9e4931', 4932, 'a995a4f667af512c121a76e9a91037d3213f3bd4'],
  ['1', '1e4932', 4933, 'c85784f4c36c0ad69d20e9488dda0bc56eb2f8bd'],
];

/** What Redis says is "not a valid float", or adds up to infinity. */
const NO_FLOATS = ['', ' 1', '1 ', '.', '1e', 'e1', '--1', '+-1', '1f', '1.2.3', '1,5', 'nan', '1e5000', '1e4933'];

function parse(text: string): LongDouble {
  const value = parseLongDouble(text);
  assert.notEqual(value, null, `${text} is a number`);
  return value!;
}

function sum(a: string, b: string): string {
  return formatLongDouble(addLongDouble(parse(a), parse(b)));
}

test('sums are those of INCRBYFLOAT, digit for digit', () => {
  for (const [a, b, expected] of SUMS) {
    assert.equal(sum(a, b), expected, `${a} + ${b}`);
    assert.equal(sum(b, a), expected, `${b} + ${a}`);
  }
});

test('sums of thousands of digits', () => {
  for (const [a, b, digits, sha1] of LONG) {
    const text = sum(a, b);
    assert.equal(text.length, digits);
    assert.equal(createHash('sha1').update(text).digest('hex'), sha1, `${a} + ${b}`);
    assert.ok(!isInfinite(parse(text)));
  }
});

test('what is no number, or too large for a long double, is told', () => {
  for (const text of NO_FLOATS) {
    const value = parseLongDouble(text);
    assert.ok(value === null || isInfinite(value), JSON.stringify(text));
  }
  assert.ok(isInfinite(addLongDouble(parse('1e4932'), parse('1e4932'))));
  assert.ok(isInfinite(addLongDouble(parse('-1e4932'), parse('-1e4932'))));
  assert.ok(!isInfinite(parse('1.18973149535723176502e4932')));
});

const decimal = fc
  .tuple(fc.boolean(), fc.integer({ min: 0, max: 10 ** 9 }), fc.integer({ min: 0, max: 10 ** 9 }))
  .map(([negative, whole, fraction]) => `${negative ? '-' : ''}${whole}.${fraction}`);

test('what is printed is read as the same value', () => {
  fc.assert(
    fc.property(decimal, (text) => {
      const printed = formatLongDouble(parse(text));
      assert.equal(formatLongDouble(parse(printed)), printed);
      assert.equal(Number(printed), Number(text));
    }),
  );
});

test('addition knows no order, and a number takes itself away', () => {
  fc.assert(
    fc.property(decimal, decimal, (a, b) => {
      assert.equal(sum(a, b), sum(b, a));
      assert.equal(formatLongDouble(addLongDouble(parse(a), negateLongDouble(parse(a)))), '0');
    }),
  );
});

test('integers of 64 bits are exact', () => {
  const wide = fc.bigInt({ min: -(2n ** 62n), max: 2n ** 62n });
  fc.assert(fc.property(wide, wide, (a, b) => assert.equal(sum(String(a), String(b)), String(a + b))));
});
