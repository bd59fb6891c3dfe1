/**
 * What the code believes, said aloud. A broken belief stops the operation instead of spreading.
 */
export function assert(condition: unknown, belief: string): asserts condition {
  if (!condition) throw new Error(`assertion failed: ${belief}`);
}
