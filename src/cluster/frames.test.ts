/** Framing: whatever way a stream is cut up, the same frames come out, and nothing is allocated on a stranger's word. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { FRAME_HEADER_BYTES, FrameReader, MAX_UNPROVEN_FRAME_BYTES, writeFrame } from './frames.ts';

type Frame = [kind: number, payload: string];

function collect(max: number) {
  const frames: Frame[] = [];
  const sink = {
    frame: (kind: number, buf: Buffer, start: number, end: number) =>
      void frames.push([kind, buf.toString('hex', start, end)]),
  };
  return { frames, reader: new FrameReader(sink, max) };
}

/** As a socket does it: the bytes are in a buffer that is overwritten as soon as the call returns. */
function feed(reader: FrameReader, stream: Buffer, cuts: number[]): boolean {
  const shared = Buffer.alloc(stream.length + 7);
  const at = [0, ...cuts.map((c) => c % (stream.length + 1)).sort((a, b) => a - b), stream.length];
  for (let i = 1; i < at.length; i++) {
    const n = stream.copy(shared, 7, at[i - 1], at[i]);
    const good = reader.read(shared, 7, 7 + n);
    shared.fill(0xee);
    if (!good) return false;
  }
  return true;
}

const frame = fc.tuple(fc.nat({ max: 255 }), fc.uint8Array({ maxLength: 700 }));

function encode(frames: [number, Uint8Array][]): Buffer {
  const out = Buffer.alloc(frames.reduce((n, [, p]) => n + p.length + FRAME_HEADER_BYTES, 0));
  let at = 0;
  for (const [kind, payload] of frames) at = writeFrame(out, at, kind, Buffer.from(payload), 0, payload.length);
  assert.equal(at, out.length);
  return out;
}

test('frames come out as they went in, through every split', () => {
  fc.assert(
    fc.property(fc.array(frame, { maxLength: 20 }), fc.array(fc.nat(), { maxLength: 30 }), (frames, cuts) => {
      const { frames: got, reader } = collect(4096);
      assert.ok(feed(reader, encode(frames), cuts));
      assert.deepEqual(
        got,
        frames.map(([kind, p]) => [kind, Buffer.from(p).toString('hex')]),
      );
    }),
    { numRuns: 500 },
  );
});

test('byte by byte', () => {
  const frames: [number, Uint8Array][] = Array.from({ length: 40 }, (_, i) => [i, new Uint8Array(i * i).fill(i)]);
  const stream = encode(frames);
  const { frames: got, reader } = collect(4096);
  assert.ok(feed(reader, stream, [...stream.keys()]));
  assert.equal(got.length, 40);
  assert.ok(got.every(([kind, p], i) => kind === i && p.length === i * i * 2));
});

test('any bytes at all: the same outcome however they are cut, and no more memory than came in', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 400 }), fc.array(fc.nat(), { maxLength: 20 }), (bytes, cuts) => {
      const whole = collect(64);
      const parts = collect(64);
      const stream = Buffer.from(bytes);
      const good = whole.reader.read(stream, 0, stream.length);
      assert.equal(feed(parts.reader, stream, cuts), good);
      assert.deepEqual(parts.frames, whole.frames);
      assert.ok(parts.reader.tailBytes <= 512);
    }),
    { numRuns: 1000 },
  );
});

test('a length is a promise that allocates nothing', () => {
  const header = Buffer.alloc(4);
  for (const length of [0, MAX_UNPROVEN_FRAME_BYTES + 1, 0x7fffffff, 0x80000000, 0xffffffff]) {
    header.writeUInt32LE(length);
    for (const cuts of [[], [1, 2, 3]]) {
      const { reader, frames } = collect(MAX_UNPROVEN_FRAME_BYTES);
      assert.equal(feed(reader, Buffer.concat([header, Buffer.alloc(100)]), cuts), false, `${length}`);
      assert.equal(frames.length, 0);
      assert.ok(reader.tailBytes <= 256);
    }
  }
  const { reader } = collect(MAX_UNPROVEN_FRAME_BYTES);
  header.writeUInt32LE(MAX_UNPROVEN_FRAME_BYTES);
  assert.ok(reader.read(header, 0, 4));
  assert.ok(reader.tailBytes <= 256);
  for (let i = 1; i < MAX_UNPROVEN_FRAME_BYTES; i++) assert.ok(reader.read(Buffer.of(1), 0, 1));
  assert.ok(reader.tailBytes <= MAX_UNPROVEN_FRAME_BYTES + 4);
});

test('a large frame leaves no large buffer behind, and the limit may change between two frames', () => {
  const seen: number[] = [];
  const sink = {
    frame: (_kind: number, _buf: Buffer, start: number, end: number) => {
      seen.push(end - start);
      reader.max = 1 << 20;
    },
  };
  const reader = new FrameReader(sink, 64);
  const stream = encode([
    [1, new Uint8Array(10)],
    [2, new Uint8Array(500_000)],
    [3, new Uint8Array(3)],
  ]);
  assert.ok(feed(reader, stream, [100, 250_000]));
  assert.deepEqual(seen, [10, 500_000, 3]);
  assert.equal(reader.tailBytes, 0);
});

test('a reader that is stopped by a frame gives no other', () => {
  let count = 0;
  const reader = new FrameReader(
    {
      frame: () => {
        count++;
        reader.stop();
      },
    },
    64,
  );
  const stream = encode(Array.from({ length: 5 }, () => [1, new Uint8Array(5)]));
  assert.ok(feed(reader, stream, []));
  assert.equal(count, 1);
});
