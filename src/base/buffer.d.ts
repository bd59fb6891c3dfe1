/** Node's own fast paths between latin1 strings and buffers, which `@types/node` leaves out. */
interface Buffer {
  latin1Slice(start?: number, end?: number): string;
  latin1Write(s: string, offset?: number, length?: number): number;
}
