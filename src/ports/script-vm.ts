/**
 * The script port: a Lua 5.1 machine that runs a script to its end, synchronously, with `call` for `redis.call`.
 * Time and randomness come from the caller, so that a script can be run again with the same outcome.
 */
export interface ScriptVM {
  compile(source: string): ScriptHandle;
}

export interface ScriptHandle {
  run(keys: string[], args: string[], call: (args: string[]) => unknown): unknown;
  dispose(): void;
}
