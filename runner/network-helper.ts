import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';

/** A program that connects a network namespace to the machine's network without any right there. */
export interface NetworkHelper {
  readonly name: 'pasta' | 'slirp4netns';
  /** Program and arguments. It has the namespace as standard input, and writes to standard output once the network is there. */
  readonly command: readonly string[];
  /** Passes questions on to the machine's own name servers, which may listen on its loopback only. */
  readonly nameserver: string;
}

const NAMESPACE = '/proc/self/fd/0';

/** Link-local: no network has it. */
const PASTA_NAMESERVER = '169.254.1.1';

/** No port of the machine's loopback is reached, and none of the sandbox's is open on the machine (passt(1)). */
const PASTA = [
  ...['--foreground', '--quiet', '--config-net', '--no-map-gw', '--dns-forward', PASTA_NAMESERVER],
  ...['--tcp-ports', 'none', '--udp-ports', 'none', '--tcp-ns', 'none', '--udp-ns', 'none'],
  ...['--pid', '/dev/stdout', '--netns', NAMESPACE],
];

/** slirp4netns(1); 10.0.2.3 is its name server. */
const SLIRP = [
  ...['--configure', '--mtu=65520', '--disable-host-loopback', '--enable-sandbox', '--enable-seccomp'],
  ...['--ready-fd=1', '--netns-type=path', NAMESPACE, 'tap0'],
];

/**
 * slirp4netns first: it is there in a fifth of the time, and Debian 12's pasta gives what a server sends several times over to a client
 * that has shut down its own side.
 */
const HELPERS = [
  { name: 'slirp4netns', options: SLIRP, nameserver: '10.0.2.3' },
  { name: 'pasta', options: PASTA, nameserver: PASTA_NAMESERVER },
] as const;

const USUAL_PATH = ['/usr/local/bin', '/usr/bin', '/bin'] as const;

const TUN = '/dev/net/tun';

/** Where {@link findNetworkHelper} looks, in its order; the device comes first, then programs until one may be started. */
export function networkHelperPlaces(searchPath: readonly string[] = USUAL_PATH): {
  readonly device: string;
  readonly programs: readonly string[];
} {
  return {
    device: TUN,
    programs: HELPERS.flatMap(({ name }) => searchPath.map((folder) => join(folder, name))),
  };
}

/** The first of the helpers in the folders `searchPath`; undefined where there is none, or no /dev/net/tun that it may open. */
export function findNetworkHelper(searchPath: readonly string[] = USUAL_PATH): NetworkHelper | undefined {
  if (!isAllowed(TUN, constants.R_OK | constants.W_OK)) return undefined;
  for (const { name, options, nameserver } of HELPERS) {
    const program = searchPath
      .map((folder) => join(folder, name))
      .find((path) => isAllowed(path, constants.X_OK));
    if (program !== undefined) return { name, command: [program, ...options], nameserver };
  }
  return undefined;
}

function isAllowed(path: string, mode: number): boolean {
  try {
    accessSync(path, mode);
    return true;
  } catch {
    return false;
  }
}
