/**
 * `tls-*` settings as Node's options: files are read here, and protocol and cipher lists translated.
 *
 * As in Redis, a certificate says that its holder belongs here, not where it lives: the CA is checked and the host name
 * is not.
 */
import * as constants from 'node:constants';
import * as fs from 'node:fs';
import * as path from 'node:path';
import * as tls from 'node:tls';
import { GrammeError } from '../base/errors.ts';
import type { TlsOptions } from '../ports/transport.ts';

/** A stranger may take so many ms over a TLS handshake. */
const TLS_HANDSHAKE_MS = 5000;
/** A dialler's files are read again after so many ms: certificates are renewed under running servers. */
const CONTEXT_MS = 10_000;

const PROTOCOLS = ['TLSv1', 'TLSv1.1', 'TLSv1.2', 'TLSv1.3'] as const;
const OFF = [
  constants.SSL_OP_NO_TLSv1,
  constants.SSL_OP_NO_TLSv1_1,
  constants.SSL_OP_NO_TLSv1_2,
  (constants as unknown as { SSL_OP_NO_TLSv1_3?: number }).SSL_OP_NO_TLSv1_3 ?? 0,
];
const DEFAULT_PROTOCOLS = 'TLSv1.2 TLSv1.3';

function read(file: string, what: string): Buffer {
  try {
    return fs.readFileSync(file);
  } catch (error) {
    throw new GrammeError('CONFIG', `can't read ${what} ${file}: ${(error as Error).message}`, { cause: error });
  }
}

function authorities({ caFile, caDir }: TlsOptions): Buffer[] | undefined {
  const found: Buffer[] = [];
  if (caFile) found.push(read(caFile, 'tls-ca-cert-file'));
  if (caDir) {
    let names: string[];
    try {
      names = fs.readdirSync(caDir).sort();
    } catch (error) {
      throw new GrammeError('CONFIG', `can't read tls-ca-cert-dir ${caDir}: ${(error as Error).message}`);
    }
    for (const name of names) {
      const file = path.join(caDir, name);
      if (!fs.statSync(file).isFile()) continue;
      const bytes = read(file, 'certificate');
      if (bytes.includes('-----BEGIN CERTIFICATE-----')) found.push(bytes);
    }
  }
  return found.length > 0 ? found : undefined;
}

function protocols(text: string): tls.SecureContextOptions {
  const names = text.split(/[\s,]+/).filter((n) => n !== '');
  const chosen = names.map((n) => PROTOCOLS.findIndex((p) => p.toLowerCase() === n.toLowerCase()));
  if (chosen.length === 0 || chosen.includes(-1)) {
    throw new GrammeError('CONFIG', `tls-protocols: '${text}' is not a list of ${PROTOCOLS.join(', ')}`);
  }
  const first = Math.min(...chosen);
  const last = Math.max(...chosen);
  let secureOptions = 0;
  for (let i = first; i < last; i++) if (!chosen.includes(i)) secureOptions |= OFF[i];
  return { minVersion: PROTOCOLS[first], maxVersion: PROTOCOLS[last], secureOptions };
}

/** Node has one list for both, and tells those of TLS 1.3 by their names. */
function cipherList(ciphers: string | undefined, suites: string | undefined): string {
  const defaults = tls.DEFAULT_CIPHERS.split(':');
  const isSuite = (name: string) => name.startsWith('TLS_');
  return [
    suites || defaults.filter(isSuite).join(':'),
    ciphers || defaults.filter((name) => !isSuite(name)).join(':'),
  ].join(':');
}

function settings(o: TlsOptions): tls.SecureContextOptions {
  if (o.certFile === '') throw new GrammeError('CONFIG', 'TLS needs a certificate: set tls-cert-file');
  return {
    cert: read(o.certFile, 'tls-cert-file'),
    key: read(o.keyFile || o.certFile, 'tls-key-file'),
    passphrase: o.keyFilePass || undefined,
    ca: authorities(o),
    ...protocols(o.protocols || DEFAULT_PROTOCOLS),
    ciphers: cipherList(o.ciphers, o.ciphersuites),
    honorCipherOrder: o.preferServerCiphers ?? false,
  };
}

/** OpenSSL's own complaint, with what it is about. */
function checked<T>(make: () => T): T {
  try {
    return make();
  } catch (error) {
    if (error instanceof GrammeError) throw error;
    throw new GrammeError('CONFIG', `TLS settings are no good: ${(error as Error).message}`, { cause: error });
  }
}

/** For a listener. Throws `CONFIG` when the files are no good. */
export function serverTls(o: TlsOptions): tls.TlsOptions {
  const auth = o.authClients ?? 'yes';
  return checked(() => {
    const all = settings(o);
    if (auth !== 'no' && all.ca === undefined) {
      const need = 'set tls-ca-cert-file or tls-ca-cert-dir, or tls-auth-clients no';
      throw new GrammeError('CONFIG', `certificates can't be checked without a CA: ${need}`);
    }
    tls.createSecureContext(all);
    return {
      ...all,
      requestCert: auth !== 'no',
      // an optional certificate is looked at once it is there
      rejectUnauthorized: auth === 'yes',
      handshakeTimeout: TLS_HANDSHAKE_MS,
    };
  });
}

const contexts = new WeakMap<TlsOptions, { made: number; context: tls.SecureContext }>();

/** For an outgoing connection. Throws `CONFIG` when the files are no good. */
export function clientTls(o: TlsOptions): tls.ConnectionOptions {
  let known = contexts.get(o);
  if (known === undefined || Date.now() - known.made > CONTEXT_MS) {
    const context = checked(() => {
      const all = settings(o);
      if (all.ca === undefined) {
        throw new GrammeError('CONFIG', "certificates can't be checked without a CA: set tls-ca-cert-file");
      }
      return tls.createSecureContext(all);
    });
    known = { made: Date.now(), context };
    contexts.set(o, known);
  }
  return { secureContext: known.context, rejectUnauthorized: true, checkServerIdentity: () => undefined };
}
