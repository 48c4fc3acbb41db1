import { readdirSync, readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf, type HostPath, joinHost, MachineError } from '../core/index.ts';
import type { Environment } from './argv/pairs.ts';

/** Which authorities HTTPS connections trust beside those that Node brings along. */
export interface Trust {
  /** Their certificates, PEM. @throws MachineError `certificates-unreadable` where a named file cannot be read */
  readonly roots: () => readonly string[];
  /**
   * All trusted certificates in one file, for programs that take one; undefined where the environment names none, and each program's
   * own idea of the machine's authorities is the same.
   */
  readonly file: () => Promise<HostPath | undefined>;
}

/** Where distributions keep the certificates that the machine trusts: Debian, Fedora, openSUSE, Alpine. The first one counts. */
const BUNDLES = [
  '/etc/ssl/certs/ca-certificates.crt',
  '/etc/pki/tls/certs/ca-bundle.crt',
  '/etc/ssl/ca-bundle.pem',
  '/etc/ssl/cert.pem',
];
const CERTIFICATE = '-----BEGIN CERTIFICATE-----';

/**
 * The machine's certificates, and those that `SSL_CERT_FILE` and `SSL_CERT_DIR` (folders, with `:` between them) name, as OpenSSL has
 * these variables. Node itself adds `NODE_EXTRA_CA_CERTS`. @param temporary a folder of this process
 */
export function trustOf(env: Environment, temporary: HostPath): Trust {
  const [file = '', folders = '', extra = ''] = [
    env['SSL_CERT_FILE'],
    env['SSL_CERT_DIR'],
    env['NODE_EXTRA_CA_CERTS'],
  ];
  const roots = (): readonly string[] => [
    ...machineRoots(),
    ...(file === '' ? [] : [read('SSL_CERT_FILE', file)]),
    ...folders.split(':').flatMap((folder) => (folder === '' ? [] : readFolder(folder))),
  ];
  let written: Promise<HostPath> | undefined;
  const write = async (): Promise<HostPath> => {
    const path = joinHost(temporary, 'certificates.pem');
    const { getCACertificates } = process.getBuiltinModule('node:tls');
    await writeFile(path, [...getCACertificates('default'), ...roots()].join('\n'));
    return path;
  };
  return {
    roots,
    file: async () => {
      if (file === '' && folders === '' && extra === '') return undefined;
      written ??= write();
      return await written;
    },
  };
}

function machineRoots(): readonly string[] {
  for (const bundle of BUNDLES) {
    try {
      return [readFileSync(bundle, 'utf8')];
    } catch {
      // Another distribution's place.
    }
  }
  return [];
}

function read(name: string, path: string): string {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    throw unreadable(`cannot read ${path}, which ${name} names: ${errnoOf(cause) ?? 'unknown error'}`, name);
  }
  if (text.includes(CERTIFICATE)) return text;
  throw unreadable(`${path}, which ${name} names, holds no certificate in PEM form`, name);
}

/** As OpenSSL, passes over what holds no certificate. */
function readFolder(folder: string): readonly string[] {
  let names: readonly string[];
  try {
    names = readdirSync(folder);
  } catch (cause) {
    const reason = errnoOf(cause) ?? 'unknown error';
    throw unreadable(`cannot read ${folder}, which SSL_CERT_DIR names: ${reason}`, 'SSL_CERT_DIR');
  }
  return names.flatMap((name) => {
    try {
      const text = readFileSync(join(folder, name), 'utf8');
      return text.includes(CERTIFICATE) ? [text] : [];
    } catch {
      return [];
    }
  });
}

function unreadable(message: string, name: string): MachineError {
  return new MachineError('certificates-unreadable', message, { hint: `Correct ${name}, or unset it.` });
}
