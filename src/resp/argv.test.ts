/** Arguments on their way through a frame. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ByteReader, ByteWriter } from '../base/bytes.ts';
import { slotOf } from '../ring/slots.ts';
import { Argv } from './argv.ts';

const bytes = fc.uint8Array({ maxLength: 300 }).map((b) => Buffer.from(b).toString('latin1'));

test('arguments are read as they were written, in place and behind whatever stands before them', () => {
  const into = new Argv(1);
  fc.assert(
    fc.property(fc.array(bytes, { maxLength: 20 }), bytes, (args, before) => {
      const w = new ByteWriter(16);
      w.str(before);
      Argv.from(args).write(w);
      const r = new ByteReader(w.buf, 0, w.pos);
      assert.equal(r.str(), before);
      into.read(r);
      assert.ok(r.done);
      assert.deepEqual(into.strings(), args);
      assert.equal(into.buf, w.buf);
      assert.deepEqual(into.copy().strings(), args);
    }),
  );
});

test('the slot of an argument is that of its key', () => {
  const argv = Argv.from(['GET', 'a{user}b', 'c{user}', 'user']);
  for (const i of [1, 2, 3]) assert.equal(argv.slot(i), slotOf('user'));
});
