/**
 * Every limit the server has, in one place, with its unit. Code elsewhere names these and never a bare number.
 */

/** Longest inline command, and the longest `*N` or `$N` header line, in bytes (Redis: PROTO_INLINE_MAX_SIZE). */
export const MAX_INLINE_BYTES = 64 * 1024;

/** Most arguments one command may have. Redis 7 takes up to 2^31 - 1; here a header must not promise more than this. */
export const MAX_COMMAND_ARGS = 1024 * 1024;

/** Most arguments, and longest argument in bytes, before a client has authenticated (Redis 7's own figures). */
export const MAX_UNAUTHENTICATED_ARGS = 10;
export const MAX_UNAUTHENTICATED_BULK_BYTES = 16384;

/** Longest single argument by default (`proto-max-bulk-len`), and the longest that a V8 string can hold. */
export const DEFAULT_MAX_BULK_BYTES = 512 * 1024 * 1024;
export const MAX_STRING_BYTES = 2 ** 29 - 25;

/** A socket's reads go through one shared buffer of this many bytes. */
export const READ_BUFFER_BYTES = 64 * 1024;

/** The shared reply buffer is written out early above this many bytes, so that memory stays flat in long ticks. */
export const REPLY_FLUSH_BYTES = 128 * 1024;

/** A client whose unsent replies pass this many bytes is not read from until it has taken half of them. */
export const OUTPUT_PAUSE_BYTES = 8 * 1024 * 1024;

/** Intervals of a context above which a change is counted: where Dynamo cut its clocks short (paper 4.4). None is cut here. */
export const LARGE_CONTEXT_INTERVALS = 10;

/** How often the journal is handed to the engine under `everysec` and `no`, in ms. The promise is 50 ms. */
export const JOURNAL_FLUSH_MS = 20;

/** The journal is sealed early when a batch passes this many bytes. */
export const JOURNAL_BATCH_BYTES = 1024 * 1024;

/** `everysec`: how often the journal is fsynced, in ms. */
export const JOURNAL_SYNC_MS = 1000;

/** A fold starts when the journal holds this many bytes that are not yet rows ... */
export const FOLD_START_BYTES = 192 * 1024 * 1024;
/** ... or when this many ms have passed since the first unfolded write. */
export const FOLD_START_MS = 2000;
/** While the server is busy and the backlog is below this, the fold takes only a small share of the time. */
export const FOLD_POLITE_BYTES = 256 * 1024 * 1024;
/** A polite fold rests this many times as long as it worked. */
export const FOLD_REST = 8;
/** More commands a second than this is busy. */
export const FOLD_BUSY_COMMANDS = 4000;
/** So is a machine of which less than this share of its CPU time is unused: others may need it, other nodes among them. */
export const FOLD_IDLE_SHARE = 0.25;
/** A busy server's fold starts by age only after this many ms: rewritten keys are then folded once. */
export const FOLD_START_BUSY_MS = 120_000;
/** Above this many bytes of unfolded journal, acks wait for the fold. */
export const JOURNAL_LIMIT_BYTES = 384 * 1024 * 1024;
/** Rows encoded in one slice of the fold before clients get their turn, and rows in one transaction. */
export const FOLD_SLICE_ROWS = 512;
export const FOLD_TRANSACTION_ROWS = 4096;
/** Encoded bytes in one slice of the fold. */
export const FOLD_SLICE_BYTES = 256 * 1024;

/** States up to this many encoded bytes are kept inside their key's row; larger ones are one row an entry. */
export const INLINE_STATE_BYTES = 8 * 1024;

/** A string that is written piecemeal (`SETRANGE`, `SETBIT`, `APPEND`, `BITFIELD`) is kept in chunks of this size. */
export const CHUNK_BYTES = 4096;

/** A remote stamp further ahead of the wall clock than this never moves the local clock, in ms. */
export const MAX_CLOCK_DRIFT_MS = 60_000;
/** The hybrid clock's high-water mark is leased this far ahead on disk, in ms. */
export const CLOCK_LEASE_MS = 20_000;

/** Longest DGET token accepted, in characters. */
export const MAX_TOKEN_CHARS = 1024 * 1024;

/** When a key must be read from disk, so many of the commands behind it are looked at, and their keys read along. */
export const PREFETCH_COMMANDS = 64;

/** Keys read from disk in one page of a range scan. */
export const RANGE_PAGE_ROWS = 2048;

/** Partitions a SCAN call may step over when they hold nothing. */
export const SCAN_MAX_PARTITIONS = 4096;

/** Keys removed by one round of active expiry, and the pause between rounds in ms. */
export const EXPIRE_ROUND_KEYS = 512;
export const EXPIRE_ROUND_MS = 250;

/** Objects looked at in one step of eviction of cold objects from memory. */
export const EVICT_STEP_OBJECTS = 4096;
