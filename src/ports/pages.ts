/** The pages port: what is read over HTTP, from a port that knows no passwords. So nothing here may ever change anything. */
export interface Page {
  /** Where it is: '/' and a name. */
  readonly path: string;
  /** Of the content, with its character set. */
  readonly type: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** The page as it is now. */
  body(): string | Promise<string>;
}
