/** The `tls-*` directives as the transport wants them. */
import type { TlsOptions } from '../ports/transport.ts';
import type { Config } from './config.ts';

/** What the `tls-*` directives say, as Redis names them. */
export function tlsOptions(config: Config): TlsOptions {
  return {
    certFile: config.get('tls-cert-file'),
    keyFile: config.get('tls-key-file'),
    keyFilePass: config.get('tls-key-file-pass'),
    caFile: config.get('tls-ca-cert-file'),
    caDir: config.get('tls-ca-cert-dir'),
    authClients: config.get('tls-auth-clients') as 'yes' | 'no' | 'optional',
    protocols: config.get('tls-protocols'),
    ciphers: config.get('tls-ciphers'),
    ciphersuites: config.get('tls-ciphersuites'),
    preferServerCiphers: config.bool('tls-prefer-server-ciphers'),
  };
}
