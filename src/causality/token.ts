/**
 * The client token: everything that a reader of `DGET` saw of one key, opaque and signed (DESIGN section 3).
 *
 * `g1.` and base64url of: cluster id, database, hash of the key, context, remembered removals, sums of runs, and
 * sixteen bytes of HMAC-SHA256 with a key that the cluster shares. It is safe to keep across restarts and to hand to
 * any node. What it covers is exactly what a `DSET` replaces.
 */
import { createHmac, timingSafeEqual } from 'node:crypto';
import { ByteReader, ByteWriter, TruncatedError } from '../base/bytes.ts';
import { TOKEN_BAD, TOKEN_FOREIGN, TOKEN_OTHER_KEY } from '../base/errors.ts';
import { hash52 } from '../base/hash.ts';
import { MAX_TOKEN_CHARS } from '../base/limits.ts';
import { ACTOR_BYTES, actorName, actorNumber } from './actors.ts';
import { Context } from './context.ts';

const PREFIX = 'g1.';
const MAC_BYTES = 16;
const CLUSTER_BYTES = 8;

/** A remembered removal. */
interface Gone {
  field: string;
  actor: number;
  hlc: number;
}

export interface TokenContents {
  context: Context;
  gone: Gone[];
  /** Run → the highest point seen of it, and its sum there. */
  sums: Map<string, { hlc: number; sum: string }>;
}

export class TokenMint {
  private readonly cluster: string;
  private readonly key: Buffer;
  private readonly w = new ByteWriter(512);

  /** @param clusterId sixteen hex digits; @param key hex */
  constructor(clusterId: string, key: string) {
    this.cluster = Buffer.from(clusterId, 'hex').latin1Slice();
    this.key = Buffer.from(key, 'hex');
  }

  private mac(payload: Uint8Array): Buffer {
    return createHmac('sha256', this.key).update(payload).digest().subarray(0, MAC_BYTES) as Buffer;
  }

  issue(db: number, key: string, contents: TokenContents): string {
    const { w } = this;
    w.reset();
    w.rawStr(this.cluster);
    w.u8(db);
    w.u53(hash52(key));
    contents.context.encode(w);
    w.varint(contents.gone.length);
    for (const g of contents.gone) {
      w.str(g.field);
      w.rawStr(actorName(g.actor));
      w.u53(g.hlc);
    }
    w.varint(contents.sums.size);
    for (const [run, { hlc, sum }] of contents.sums) {
      w.str(run);
      w.u53(hlc);
      w.str(sum);
    }
    const payload = w.take();
    return PREFIX + Buffer.concat([payload, this.mac(payload)]).toString('base64url');
  }

  /** Reads a token back. Throws one of the BADCONTEXT errors. */
  open(db: number, key: string, token: string): TokenContents {
    if (!token.startsWith(PREFIX) || token.length > MAX_TOKEN_CHARS || !/^[\w-]+$/.test(token.slice(PREFIX.length))) {
      throw TOKEN_BAD;
    }
    const bytes = Buffer.from(token.slice(PREFIX.length), 'base64url');
    // base64 has several spellings of the same bytes; ours is one
    if (bytes.toString('base64url') !== token.slice(PREFIX.length)) throw TOKEN_BAD;
    const end = bytes.length - MAC_BYTES;
    if (end < CLUSTER_BYTES) throw TOKEN_BAD;
    if (bytes.latin1Slice(0, CLUSTER_BYTES) !== this.cluster) throw TOKEN_FOREIGN;
    if (!timingSafeEqual(this.mac(bytes.subarray(0, end)), bytes.subarray(end))) throw TOKEN_BAD;
    const r = new ByteReader(bytes, CLUSTER_BYTES, end);
    try {
      if (r.u8() !== db || r.u53() !== hash52(key)) throw TOKEN_OTHER_KEY;
      const context = Context.decode(r);
      const gone: Gone[] = [];
      for (let n = r.varint(); n > 0; n--)
        gone.push({ field: r.str(), actor: actorNumber(r.rawStr(ACTOR_BYTES)), hlc: r.u53() });
      const sums = new Map<string, { hlc: number; sum: string }>();
      for (let n = r.varint(); n > 0; n--) sums.set(r.str(), { hlc: r.u53(), sum: r.str() });
      if (!r.done) throw TOKEN_BAD;
      return { context, gone, sums };
    } catch (error) {
      if (error instanceof TruncatedError) throw TOKEN_BAD;
      throw error;
    }
  }
}
