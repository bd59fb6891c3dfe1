/** `redis-parser` ships no types; this is what is used of it. */
declare module 'redis-parser' {
  export default class RedisParser {
    constructor(options: {
      // biome-ignore lint/suspicious/noExplicitAny: replies are whatever the wire carries
      returnReply(reply: any): void;
      returnError(error: Error): void;
      returnFatalError?(error: Error): void;
      returnBuffers?: boolean;
      stringNumbers?: boolean;
    });
    execute(data: Buffer): void;
    reset(): void;
  }
}
