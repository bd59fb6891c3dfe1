declare module 'net-ping' {
  interface Session {
    pingHost(target: string, done: (error: Error | null, target: string) => void): void;
    on(event: 'error', handler: (error: Error) => void): void;
    close(): void;
  }
  export function createSession(options: { retries?: number; timeout?: number }): Session;
}
