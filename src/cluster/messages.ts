/**
 * Kinds of frames on the cluster bus, beyond the bus's own (docs/BUS.md lists their contents).
 */

/** Writes and read comparisons of one tick: number, ticket, operations. */
export const REPLICATE = 16;
/** All frames up to a number have been taken, and which operations were not clean. */
export const ACK = 17;
/** A client's command, for the node that coordinates its key, and its reply. */
export const FORWARD = 18;
export const FORWARDED = 19;
/** One key's state, if it differs from a hash. */
export const FETCH = 20;
export const FETCHED = 21;
/** States to be joined (read repair, hints, transfer), and how far they are safe. */
export const STATES = 22;
export const STATES_TAKEN = 23;
export const GOSSIP = 24;
/** The layout, and which partitions are still served by former owners. */
export const RING = 25;
export const PING = 27;
export const PONG = 28;
/** One message of an exchange over a partition. */
export const EXCHANGE = 31;
/** A question to one node, by name, and the answer. */
export const CALL = 32;
export const ANSWER = 33;
/** New owners have everything of these partitions. */
export const CONFIRM = 34;
/** Names a ring without sending it. */
export const RING_NAME = 35;

/** Operations of a REPLICATE frame. */
export const OP_WRITE = 1;
/** A write whose record does not say what it was made on: the hash of that context comes first. */
export const OP_WRITE_AFTER = 2;
/** A key and the hash of its context. */
export const OP_COMPARE = 3;
/** A write whose record does not say what it was made on, with that context itself. */
export const OP_WRITE_UPON = 4;
/** No operation: the frame is to be on disk before it is acknowledged. */
export const OP_SYNC = 5;
/** Flag on a write: its reply rests on what was there, so it is not to be applied where more has been seen. */
export const OP_FIRM = 0x20;
/** Flag on a write: for the owner that follows, who is absent. */
export const OP_HINT = 0x80;

/** Flag on a write: it came of a forwarded command, whose name and reply follow. */
export const OP_REQUEST = 0x40;
/** Flag on a write of a command that its receiver has forwarded: taking it answers the command. */
export const OP_ANSWERS = 0x10;
export const OP_KIND = 0x0f;
/** First protocol version with firm and durable writes. */
export const FIRM_VERSION = 2;
/** First protocol version in which a write may answer the command that it came of. */
export const ANSWERS_VERSION = 3;

/** First protocol version whose nodes lend keys. */
export const LEND_VERSION = 3;

/** What an ACK says of an operation that was not clean. */
export const UNCLEAN_STATE = 1;
/** The state is large: fetch it. */
export const UNCLEAN_LARGE = 2;
/** More has been seen here than the firm write was made on: it was not applied. */
export const REFUSED_WRITE = 3;
/** The states differ, and what is here is not decided yet: somebody who asks for it will wait. */
export const UNCLEAN_OPEN = 4;
/** What has been flushed: databases and their floors. */
export const FLOORS = 36;
/** Forwarded commands that the sender has run while the receiver was out of reach. */
export const NAMES = 37;
/** Runs of forwarded commands that do not count: the receiver undoes its own, and says that it has been told. */
export const VOID = 38;
export const VOIDED = 39;
/** As FORWARDED, of a command that the replying node has not run: somebody else had. */
export const FORWARDED_BY = 40;
/** Keys that a command of the sender needs for itself; what there is of them; that they are not to be taken away any more,
 * and yes; that the sender is done with them; that they are the borrower's no longer. */
export const LEND = 41;
export const LENT = 42;
export const PIN = 43;
export const PINNED = 44;
export const RETURN = 45;
export const RECALL = 46;
