/** What a server can learn about the process and the machine that it runs on (for INFO, MEMORY and limits). */
export interface Host {
  readonly pid: number;
  readonly os: string;
  readonly arch: string;
  readonly runtime: string;
  /** Resident set size in bytes. */
  residentBytes(): number;
  /** Bytes that the heap uses now, and the most it may use. */
  heapUsedBytes(): number;
  heapLimitBytes(): number;
  totalMemoryBytes(): number;
  /** Share of the machine's CPU time that nobody has used lately; 1 where that can't be known. */
  idleShare(): number;
  /** CPU seconds of the process. */
  cpu(): { user: number; system: number };
  readonly executable: string;
}
