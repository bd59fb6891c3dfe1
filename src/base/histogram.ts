/**
 * Histograms of durations in microseconds with buckets that grow with what they hold: so many to each power of two, so
 * that a percentile is wrong by the same share wherever it lies, and a few hundred counters go from 1 µs to minutes.
 *
 * `bits` says how many: 2 to the power of `bits` buckets an octave. Durations below two octaves' worth are exact. The
 * counts are the caller's own array; nothing is allocated here.
 */

const MAX_USEC = 0x7fffffff;

/** Bucket of a duration. */
export function bucketOf(usec: number, bits: number): number {
  if (usec < 2 << bits) return usec > 0 ? usec | 0 : 0;
  const v = usec > MAX_USEC ? MAX_USEC : usec | 0;
  const octave = 31 - Math.clz32(v);
  return ((octave - bits + 1) << bits) + ((v >>> (octave - bits)) & ((1 << bits) - 1));
}

/** Largest duration that falls into a bucket. */
export function bucketEnd(index: number, bits: number): number {
  if (index < 2 << bits) return index;
  const octave = (index >>> bits) + bits - 1;
  const step = index & ((1 << bits) - 1);
  return 2 ** octave + (step + 1) * 2 ** (octave - bits) - 1;
}

/** The bucket up to which this percentage of what was counted lies; -1 when nothing was. */
export function bucketAt(counts: Uint32Array | Float64Array, percent: number): number {
  let total = 0;
  for (let i = 0; i < counts.length; i++) total += counts[i];
  if (total === 0) return -1;
  const wanted = Math.max(1, Math.ceil((percent / 100) * total));
  let seen = 0;
  for (let i = 0; i < counts.length; i++) {
    seen += counts[i];
    if (seen >= wanted) return i;
  }
  return counts.length - 1;
}
