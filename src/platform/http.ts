/** The pages port over HTTP: `GET` and `HEAD` of the pages that there are, and nothing else. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { GrammeError } from '../base/errors.ts';
import type { Page } from '../ports/pages.ts';

const PLAIN = 'text/plain; charset=utf-8';
const METHODS = 'GET, HEAD';

export class HttpPages {
  private readonly pages: Map<string, Page>;
  private server: Server | null = null;

  constructor(pages: readonly Page[]) {
    this.pages = new Map(pages.map((p) => [p.path, p]));
  }

  /** Serves the pages. Resolves with the address, `host:port`; throws BUSY or IO. */
  listen(host: string, port: number): Promise<string> {
    const server = createServer((request, response) => void this.answer(request, response));
    this.server = server;
    return new Promise((resolve, reject) => {
      server.once('error', (error: NodeJS.ErrnoException) => {
        const code = error.code === 'EADDRINUSE' ? 'BUSY' : 'IO';
        reject(new GrammeError(code, `can't serve metrics on ${host}:${port}: ${error.message}`));
      });
      server.listen(port, host, () => {
        const bound = server.address();
        resolve(`${host}:${typeof bound === 'object' && bound !== null ? bound.port : port}`);
      });
    });
  }

  private async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const page = this.pages.get((request.url ?? '').split('?')[0]);
    if (page === undefined) {
      send(response, 404, PLAIN, `there are ${[...this.pages.keys()].join(', ')}\n`);
      return;
    }
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      send(response, 405, PLAIN, 'pages are read here, and nothing is changed\n', { allow: METHODS });
      return;
    }
    try {
      send(response, 200, page.type, await page.body(), page.headers);
    } catch (error) {
      send(response, 500, PLAIN, `${String(error)}\n`);
    }
  }

  close(): void {
    this.server?.close();
    this.server?.closeAllConnections();
  }
}

function send(
  response: ServerResponse,
  status: number,
  type: string,
  body: string,
  headers: Readonly<Record<string, string>> = {},
): void {
  response.writeHead(status, {
    'content-type': type,
    'content-length': Buffer.byteLength(body),
    // what is true now is not to be shown later, and is to be taken for what it says it is
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
    ...headers,
  });
  // to HEAD, node:http leaves the body out
  response.end(body);
}
