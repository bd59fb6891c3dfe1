declare module 'cli-progress' {
  export class SingleBar {
    constructor(options: {
      format?: string;
      hideCursor?: boolean;
      clearOnComplete?: boolean;
      stream?: NodeJS.WriteStream;
    });
    start(total: number, value: number, payload?: object): void;
    setTotal(total: number): void;
    update(value: number, payload?: object): void;
    stop(): void;
  }
}
