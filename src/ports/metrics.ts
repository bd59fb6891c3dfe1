/** The metrics port: numbers that are read when somebody asks (`INFO`, `/metrics`), never pushed from hot paths. */
export interface Metrics {
  /** Registers a value that is computed when it is scraped. */
  gauge(name: string, help: string, read: () => number): void;
  counter(name: string, help: string, read: () => number): void;
}
