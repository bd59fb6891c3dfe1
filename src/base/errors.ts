/**
 * Errors that have a code, a message a user can act on, and one place where they are listed.
 *
 * `ReplyError` is what a client is told: it carries no stack, because some of them are thrown on hot paths.
 * `GrammeError` is what an operator is told.
 */

/** An error reply. `message` begins with its code (`ERR`, `WRONGTYPE` ...), as Redis has it on the wire. */
export class ReplyError {
  readonly message: string;
  constructor(message: string) {
    this.message = message;
  }
}

export type OperatorCode =
  | 'CONFIG' // a directive is unknown or its value is no good
  | 'DATA_DIR' // the data directory can't be used (missing, locked by another server, not writable)
  | 'DATA_DAMAGED' // a data file is corrupt; it has been set aside under a name that the message gives
  | 'SCHEMA_NEWER' // the files were written by a newer version
  | 'BUSY' // an address is taken
  | 'IO'; // the disk refuses

export class GrammeError extends Error {
  readonly code: OperatorCode;
  constructor(code: OperatorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
    this.name = 'GrammeError';
  }
}

/** Redis's canonical texts. */
export const WRONG_TYPE = new ReplyError('WRONGTYPE Operation against a key holding the wrong kind of value');
export const SYNTAX_ERROR = new ReplyError('ERR syntax error');
export const NOT_AN_INTEGER = new ReplyError('ERR value is not an integer or out of range');
export const NOT_A_FLOAT = new ReplyError('ERR value is not a valid float');
export const NO_SUCH_KEY = new ReplyError('ERR no such key');
export const INCR_OVERFLOW = new ReplyError('ERR increment or decrement would overflow');
export const STRING_TOO_LONG = new ReplyError('ERR string exceeds maximum allowed size (proto-max-bulk-len)');
export const NO_AUTH = new ReplyError('NOAUTH Authentication required.');

/** Our own. */
export const MERGE_OVERFLOW = new ReplyError(
  'MERGEOVERFLOW concurrent increments add up to more than 64 bits hold; overwrite the key with SET to settle it',
);
export const TOKEN_BAD = new ReplyError('BADCONTEXT the context is damaged, truncated or not one of this server');
export const TOKEN_FOREIGN = new ReplyError('BADCONTEXT the context was issued by another cluster');
export const TOKEN_OTHER_KEY = new ReplyError('BADCONTEXT the context belongs to another key');
export const TOO_MANY_SIBLINGS = new ReplyError(
  'TOOMANYSIBLINGS the key has reached max-siblings; read it with DGET and write it with its CONTEXT',
);
export const READ_ONLY_DISK = new ReplyError(
  'MISCONF Gramme is configured to persist data, but it is currently unable to write to disk. Commands that may modify the data set are disabled. Please check the server log for details about the error.',
);
