/** What the operations of a REPLICATE frame have in common for whoever reads one (docs/BUS.md): in both ends of a link. */
import type { ByteReader } from '../base/bytes.ts';
import { Context } from '../causality/context.ts';
import { type Basis, SAID_BY_RECORD } from '../store/replica.ts';
import { OP_COMPARE, OP_HINT, OP_KIND, OP_REQUEST, OP_SYNC, OP_WRITE_AFTER, OP_WRITE_UPON } from './messages.ts';

/** Name and reply of the forwarded command that a write came of. */
export function skipRequest(r: ByteReader): void {
  r.pos += 11;
  const n = r.varint();
  r.pos += n;
}

/** What a write was made on. */
export function readBasis(kind: number, r: ByteReader): Basis {
  const plain = kind & OP_KIND;
  if (plain === OP_WRITE_AFTER) return r.u53();
  return plain === OP_WRITE_UPON ? Context.decode(r) : SAID_BY_RECORD;
}

/** A record, which begins with its length. */
export function skipRecord(r: ByteReader): void {
  r.pos += 4 + r.buf.readUInt32LE(r.pos);
}

/** Passes over an operation, behind its kind and number. */
export function skipOperation(kind: number, r: ByteReader): void {
  if (kind === OP_SYNC) return;
  if ((kind & OP_KIND) === OP_COMPARE) {
    r.u8();
    r.str();
    r.u53();
    return;
  }
  if (kind & OP_HINT) r.str();
  if (kind & OP_REQUEST) skipRequest(r);
  readBasis(kind, r);
  skipRecord(r);
}
