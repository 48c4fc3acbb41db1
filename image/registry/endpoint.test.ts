import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { removeFolder, temporaryFolder } from '../testing.ts';
import { originEndpoints, pullEndpoints } from './endpoint.ts';
import { createRegistry } from './registry.ts';

describe('pullEndpoints', () => {
  const bases = (host: string, config = {}): string[] =>
    pullEndpoints(host, config).map((endpoint) => endpoint.base);

  it.each([
    ['docker.io', 'https://registry-1.docker.io/v2'],
    ['reg.io:5000', 'https://reg.io:5000/v2'],
    ['localhost', 'http://localhost/v2'],
    ['localhost:5000', 'http://localhost:5000/v2'],
    ['127.3.2.1:5000', 'http://127.3.2.1:5000/v2'],
    ['[::1]:5000', 'http://[::1]:5000/v2'],
    ['localhost.evil.io', 'https://localhost.evil.io/v2'],
    ['127.0.0.1.evil.io', 'https://127.0.0.1.evil.io/v2'],
  ])('%s is asked at %s', (host, base) => {
    expect(bases(host)).toEqual([base]);
  });

  it('takes settings: http, insecure with its fall-back, loopback with TLS', () => {
    expect(bases('reg.io', { 'reg.io': { http: true } })).toEqual(['http://reg.io/v2']);
    expect(bases('reg.io', { 'reg.io': { insecure: true } })).toEqual([
      'https://reg.io/v2',
      'http://reg.io/v2',
    ]);
    expect(bases('localhost:5000', { 'localhost:5000': { http: false } })).toEqual([
      'https://localhost:5000/v2',
    ]);
  });

  it('asks mirrors first, with their paths and their own settings; pushes never go there', () => {
    const config = {
      'docker.io': { mirrors: ['mirror.io/proxy/hub/', 'http://plain.io', 'lax.io'] },
      'lax.io': { http: true },
    };
    expect(bases('docker.io', config)).toEqual([
      'https://mirror.io/v2/proxy/hub',
      'http://plain.io/v2',
      'http://lax.io/v2',
      'https://registry-1.docker.io/v2',
    ]);
    expect(originEndpoints('docker.io', config).map((endpoint) => endpoint.isMirror)).toEqual([false]);
  });
});

describe('createRegistry over TLS', () => {
  it('refuses a certificate that nobody signed, unless the registry is set insecure', async () => {
    const folder = temporaryFolder();
    const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')];
    const request = ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=localhost'];
    execFileSync('openssl', [...request, '-keyout', key, '-out', cert], { stdio: 'ignore' });
    const server = createServer(
      { key: readFileSync(key), cert: readFileSync(cert) },
      (_request, response) => {
        response.writeHead(200).end('{}');
      },
    );
    try {
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
      const host = `localhost:${(server.address() as AddressInfo).port}`;
      const ping = (insecure: boolean): Promise<void> =>
        createRegistry({
          credentials: { get: async () => undefined },
          config: { [host]: { http: false, insecure } },
          userAgent: 'varve-test',
          sleep: async () => {},
        }).ping(host);
      await expect(ping(false)).rejects.toMatchObject({
        code: 'registry-unreachable',
        message: expect.stringContaining('self-signed'),
      });
      await ping(true);
    } finally {
      server.closeAllConnections();
      server.close();
      removeFolder(folder);
    }
  });
});
