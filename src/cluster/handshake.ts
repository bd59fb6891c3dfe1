/**
 * How two nodes prove to each other that they know the cluster's secret, before any message counts: a state machine
 * that is fed frames and says what to answer.
 *
 *     dialler                          acceptor
 *     HELLO  versions, nonce, facts ->
 *                                   <- HELLO  versions, nonce, facts
 *     PROOF  HMAC(key, 'dial', T)   ->
 *                                   <- PROOF  HMAC(key, 'accept', T)
 *
 * T is a hash over both HELLOs as they were sent. Each end's fresh nonce in it makes an old proof worthless, the
 * role makes one sent back to its author worthless, and everything that was said (versions, ids) is covered by it. The
 * dialler proves first, so that whoever merely connects learns nothing to try passwords against.
 */
import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import { assert } from '../base/assert.ts';
import { ByteReader, ByteWriter, TruncatedError } from '../base/bytes.ts';
import { MAX_MEMBER_FIELD_CHARS, NODE_ID_DIGITS } from '../ring/layout.ts';

/** The bus's own frames. */
export const KIND_HELLO = 1;
export const KIND_PROOF = 2;
export const KIND_CONFIRM = 3;
export const KIND_CLOSE = 4;
export const KIND_PING = 5;
export const KIND_PONG = 6;

/** First and last protocol version that this build speaks. Two neighbouring releases have one in common. */
export const MIN_BUS_VERSION = 1;
export const BUS_VERSION = 3;

const MAGIC = 'GRAMBUS\0';
export const NONCE_BYTES = 32;
export const PROOF_BYTES = 32;
const MAX_VERSION = 0xffff;

export type Role = 'dial' | 'accept';
export type Versions = readonly [min: number, max: number];

/** What a node says of itself. */
export interface Hello {
  /** 40 hex digits. */
  readonly nodeId: string;
  /** '' while the node belongs to no cluster. */
  readonly clusterId: string;
  /** Counts the node's starts. */
  readonly session: number;
  /** The bus address that it announces, `host:port`. */
  readonly bus: string;
  readonly client: string;
}

/** Why a connection is closed; the payload of CLOSE. */
export const CLOSE_CODES = {
  protocol: 1,
  version: 2,
  cluster: 3,
  secret: 4,
  sameId: 5,
  /** Not a failure: the two nodes have a link already. */
  duplicate: 6,
  timeout: 7,
} as const;
export type CloseReason = keyof typeof CLOSE_CODES;

/** What an operator is told. The other end's own words are never repeated: it may be anybody. */
export const CLOSE_TEXTS: Record<CloseReason, string> = {
  protocol: 'it does not speak the cluster bus protocol',
  version: 'no version of the bus protocol in common',
  cluster: 'it belongs to another cluster',
  secret: 'its cluster-secret is another one',
  sameId: 'it has the same node id as this node: two nodes run on copies of one data directory',
  duplicate: 'there is a link already',
  timeout: 'the handshake took too long',
};

export function closeReason(code: number): CloseReason {
  for (const reason of Object.keys(CLOSE_CODES) as CloseReason[]) if (CLOSE_CODES[reason] === code) return reason;
  return 'protocol';
}

export interface Refusal {
  reason: CloseReason;
  why: string;
}

export interface Answer {
  /** To be sent; also before a refusal, so that the other end can see the reason for itself. */
  reply: { kind: number; payload: Buffer } | null;
  /** The other end has proven itself, and with `reply` so have we. */
  proven: boolean;
  refusal: Refusal | null;
}

const NOTHING: Answer = { reply: null, proven: false, refusal: null };

/** The key of all proofs; the secret itself is used for nothing else. '' is a secret like any other, known to all. */
export function busKey(secret: string): Buffer {
  return createHmac('sha256', Buffer.from(secret, 'utf8')).update('gramme cluster bus proof key').digest();
}

export function encodeHello(versions: Versions, nonce: Buffer, hello: Hello): Buffer {
  assert(/^[0-9a-f]{40}$/.test(hello.nodeId), 'a node id is 40 hex digits');
  assert(nonce.length === NONCE_BYTES, 'a nonce has its length');
  const w = new ByteWriter(256);
  w.rawStr(MAGIC);
  for (const v of versions) {
    w.u8(v & 255);
    w.u8(v >>> 8);
  }
  w.bytes(nonce);
  w.bytes(Buffer.from(hello.nodeId, 'hex'));
  w.varint(hello.session);
  for (const s of [hello.clusterId, hello.bus, hello.client]) {
    assert(s.length <= MAX_MEMBER_FIELD_CHARS, 'a field of a hello is short');
    w.str(s);
  }
  return w.take();
}

interface Greeting {
  versions: Versions;
  nonce: string;
  /** Null when the versions don't meet: then nobody can say what the rest looks like. */
  hello: Hello | null;
}

function field(r: ByteReader): string {
  const n = r.varint();
  if (n > MAX_MEMBER_FIELD_CHARS) throw new TruncatedError();
  return r.rawStr(n);
}

/** Throws `TruncatedError` when it is malformed. What a later version adds at the end is left alone. */
function decodeHello(bytes: Buffer, own: Versions): Greeting {
  const r = new ByteReader(bytes);
  if (r.rawStr(MAGIC.length) !== MAGIC) throw new TruncatedError();
  const u16 = () => r.u8() + r.u8() * 256;
  const versions: Versions = [u16(), u16()];
  if (versions[0] < 1 || versions[0] > versions[1] || versions[1] > MAX_VERSION) throw new TruncatedError();
  if (commonVersion(own, versions) === 0) return { versions, nonce: '', hello: null };
  const nonce = r.rawStr(NONCE_BYTES);
  const nodeId = Buffer.from(r.rawStr(NODE_ID_DIGITS / 2), 'latin1').toString('hex');
  const session = r.varint();
  const clusterId = field(r);
  const bus = field(r);
  return { versions, nonce, hello: { nodeId, clusterId, session, bus, client: field(r) } };
}

/** The highest version that both speak; 0 for none. */
export function commonVersion(a: Versions, b: Versions): number {
  const v = Math.min(a[1], b[1]);
  return v >= Math.max(a[0], b[0]) ? v : 0;
}

export class Handshake {
  readonly role: Role;
  /** Our nonce and the other end's, as latin1. */
  readonly nonce: string;
  peerNonce = '';
  /** What the other end says of itself; to be believed once it is proven. */
  peer: Hello | null = null;
  version = 0;
  private readonly key: Buffer;
  private readonly versions: Versions;
  private readonly own: Hello;
  private readonly greeting: Buffer;
  private state: 'hello' | 'proof' | 'over' = 'hello';
  private transcript: Buffer = Buffer.alloc(0);

  constructor(role: Role, key: Buffer, versions: Versions, own: Hello, nonce: Buffer) {
    this.role = role;
    this.key = key;
    this.versions = versions;
    this.own = own;
    this.nonce = nonce.latin1Slice();
    this.greeting = encodeHello(versions, nonce, own);
  }

  /** A dialler's first frame. */
  start(): { kind: number; payload: Buffer } {
    return { kind: KIND_HELLO, payload: this.greeting };
  }

  receive(kind: number, buf: Buffer, start: number, end: number): Answer {
    if (kind === KIND_HELLO && this.state === 'hello') return this.onHello(Buffer.from(buf.subarray(start, end)));
    if (kind === KIND_PROOF && this.state === 'proof') return this.onProof(buf.subarray(start, end));
    return this.refuse('protocol');
  }

  private refuse(reason: CloseReason, why = CLOSE_TEXTS[reason]): Answer {
    this.state = 'over';
    return { reply: null, proven: false, refusal: { reason, why } };
  }

  private onHello(bytes: Buffer): Answer {
    let greeting: Greeting;
    try {
      greeting = decodeHello(bytes, this.versions);
    } catch (error) {
      if (error instanceof TruncatedError) return this.refuse('protocol');
      throw error;
    }
    this.peer = greeting.hello;
    this.peerNonce = greeting.nonce;
    this.version = commonVersion(this.versions, greeting.versions);
    const accepting = this.role === 'accept';
    const reply = accepting ? { kind: KIND_HELLO, payload: this.greeting } : null;
    const refusal = this.judge(greeting);
    if (refusal !== null) {
      this.state = 'over';
      return { reply, proven: false, refusal };
    }
    const [first, second] = accepting ? [bytes, this.greeting] : [this.greeting, bytes];
    const length = Buffer.alloc(4);
    length.writeUInt32LE(first.length);
    this.transcript = createHash('sha256').update(length).update(first).update(second).digest();
    this.state = 'proof';
    if (accepting) return { reply, proven: false, refusal: null };
    return { ...NOTHING, reply: { kind: KIND_PROOF, payload: this.proof('dial') } };
  }

  /** Both ends come to the same verdict, each from the other's HELLO. */
  private judge({ hello, versions }: Greeting): Refusal | null {
    if (hello === null) {
      const range = ([a, b]: Versions) => (a === b ? `version ${a}` : `versions ${a} to ${b}`);
      const why = `${CLOSE_TEXTS.version}: it speaks ${range(versions)}, this node ${range(this.versions)}`;
      return { reason: 'version', why };
    }
    if (hello.nodeId === this.own.nodeId) return { reason: 'sameId', why: CLOSE_TEXTS.sameId };
    const [theirs, ours] = [hello.clusterId, this.own.clusterId];
    if (theirs !== '' && ours !== '' && theirs !== ours) return { reason: 'cluster', why: CLOSE_TEXTS.cluster };
    return null;
  }

  private onProof(given: Buffer): Answer {
    const accepting = this.role === 'accept';
    const expected = this.proof(accepting ? 'dial' : 'accept');
    if (given.length !== PROOF_BYTES || !timingSafeEqual(given, expected)) return this.refuse('secret');
    this.state = 'over';
    const reply = accepting ? { kind: KIND_PROOF, payload: this.proof('accept') } : null;
    return { reply, proven: true, refusal: null };
  }

  private proof(role: Role): Buffer {
    return createHmac('sha256', this.key).update(role).update('\0').update(this.transcript).digest();
  }
}
