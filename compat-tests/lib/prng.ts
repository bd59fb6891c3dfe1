// A small generator of pseudo-random numbers (xorshift over 32 bits): the same seed draws the same
// commands on every machine, so that a seed printed in a report is enough to see its failure again.

export class Prng {
  private state: number;

  constructor(seed: number) {
    // Neighbouring seeds must not draw neighbouring commands, and a state of zero would stay zero.
    this.state = (Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) ^ (seed << 13)) | 0 || 0x1234567;
    for (let i = 0; i < 8; i++) this.next();
  }

  private next(): number {
    let x = this.state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.state = x | 0;
    return x >>> 0;
  }

  /** An integer from 0 up to, not including, `below`. */
  int(below: number): number {
    return this.next() % below;
  }

  chance(probability: number): boolean {
    return this.next() / 0x1_0000_0000 < probability;
  }

  pick<T>(list: readonly T[]): T {
    return list[this.int(list.length)];
  }
}
