/** `fnv-plus` ships no types. Only the two functions that the server uses are declared. */
declare module 'fnv-plus' {
  const fnv: {
    /** FNV-1a, 32 bits, over the low byte of each character. */
    fast1a32(s: string): number;
    /** FNV-1a, 52 bits. */
    fast1a52(s: string): number;
  };
  export default fnv;
}
