/**
 * Everything that happens in a run, as lines with their time, and one digest over all of them: two runs with the same
 * digest were the same run. Lines go into the hash; they are only kept, or printed, when somebody asks.
 */
import { createHash } from 'node:crypto';
import type { Clock } from '../ports/clock.ts';

/** Characters gathered before they go into the hash. */
const CHUNK_CHARS = 64 * 1024;

export class Trace {
  private readonly hash = createHash('sha256');
  private readonly clock: Clock;
  private readonly print: ((line: string) => void) | null;
  private text = '';
  lines = 0;

  constructor(clock: Clock, print: ((line: string) => void) | null = null) {
    this.clock = clock;
    this.print = print;
  }

  note(line: string): void {
    const whole = `${this.clock.monotonic().toFixed(3)} ${line}`;
    this.lines++;
    this.print?.(whole);
    this.text += `${whole}\n`;
    if (this.text.length > CHUNK_CHARS) this.flush();
  }

  private flush(): void {
    this.hash.update(this.text, 'utf8');
    this.text = '';
  }

  /** Sixteen hex digits over everything noted so far. */
  digest(): string {
    this.flush();
    return this.hash.copy().digest('hex').slice(0, 16);
  }
}
