import { LIMIT_FLAGS } from './sandbox-options.ts';
import { defineSpec, type FlagSpec } from './spec.ts';

const later = (help: string, type: FlagSpec['type'] = 'list', except: readonly string[] = []) =>
  ({ type, help, unsupported: { except } }) as const;
/** Flags of the classic builder that change nothing here; scripts still give them. */
const ignored = (type: FlagSpec['type']) => ({ type, help: 'Has no effect', hidden: true }) as const;

/** `docker buildx build`: https://docs.docker.com/reference/cli/docker/buildx/build/ */
export const BUILD_SPEC = defineSpec({
  name: 'build',
  summary: 'Build an image from a Dockerfile',
  usage: '[OPTIONS] PATH | URL | -',
  positionals: { min: 1, max: 1 },
  flags: {
    ...LIMIT_FLAGS,
    'add-host': { type: 'list', help: 'Add a custom host-to-IP mapping (format: "host:ip")' },
    allow: {
      type: 'list',
      help: 'Allow extra privileged entitlement (e.g., "network.host", "security.insecure")',
    },
    annotation: { type: 'list', help: 'Add annotation to the image' },
    attest: later('Attestation parameters', 'list', [
      'type=provenance,disabled=true',
      'type=sbom,disabled=true',
    ]),
    'build-arg': { type: 'list', help: 'Set build-time variables' },
    'build-context': { type: 'list', help: 'Additional build contexts (e.g., name=path)' },
    builder: later('Override the configured builder instance', 'string', ['', 'default']),
    cache: {
      type: 'string',
      help: 'Reuse steps by what they read, or only on the very same parent',
      choices: ['observed', 'exact'],
      shownDefault: '"observed"',
    },
    'cache-noise': {
      type: 'list',
      placeholder: 'PATH',
      help: 'Paths in the image that differ in every run, left out when results are compared (e.g., "/var/log/*.log")',
    },
    'cache-ttl': {
      type: 'string',
      placeholder: 'AGE',
      help: 'Do not reuse results older than this (e.g., "12h", "7d")',
    },
    'cache-from': later('External cache sources'),
    'cache-to': later('Cache export destinations'),
    call: {
      type: 'string',
      help: 'Set method for evaluating build ("check", "outline", "targets")',
      shownDefault: '"build"',
    },
    check: { type: 'boolean', help: 'Shorthand for "--call=check"' },
    file: {
      type: 'string',
      short: 'f',
      help: 'Name of the Dockerfile, "-" for standard input',
      shownDefault: '"PATH/Dockerfile"',
    },
    iidfile: { type: 'string', help: 'Write the image ID to a file' },
    label: { type: 'list', help: 'Set metadata for an image' },
    load: { type: 'boolean', help: 'Shorthand for "--output=type=docker"' },
    'metadata-file': { type: 'string', help: 'Write build result metadata to a file' },
    network: {
      type: 'string',
      help: 'Set the networking mode for the "RUN" instructions during build',
      choices: ['default', 'none', 'host'],
      shownDefault: '"default"',
    },
    'no-cache': { type: 'boolean', help: 'Do not use cache when building the image' },
    'no-cache-filter': { type: 'list', help: 'Do not cache specified stages' },
    output: { type: 'list', short: 'o', help: 'Output destination (format: "type=local,dest=path")' },
    parallelism: {
      type: 'number',
      placeholder: 'int',
      help: 'Most steps that run at once',
      shownDefault: 'CPUs',
    },
    platform: { type: 'list', help: 'Set target platform for build' },
    progress: {
      type: 'string',
      help: 'Set type of progress output',
      choices: ['auto', 'tty', 'plain', 'rawjson', 'quiet'],
      shownDefault: '"auto"',
    },
    provenance: later('Shorthand for "--attest=type=provenance"', 'string', ['false']),
    pull: { type: 'boolean', help: 'Always attempt to pull all referenced images' },
    push: { type: 'boolean', help: 'Shorthand for "--output=type=registry"' },
    quiet: {
      type: 'boolean',
      short: 'q',
      help: 'Suppress the build output and print image ID on success',
    },
    sbom: later('Shorthand for "--attest=type=sbom"', 'string', ['false']),
    secret: {
      type: 'list',
      help: 'Secret to expose to the build (format: "id=mysecret[,src=/local/secret]")',
    },
    'shm-size': { type: 'size', help: 'Shared memory size for build containers', shownDefault: '64m' },
    ssh: {
      type: 'list',
      help: 'SSH agent socket or keys to expose to the build (format: "default|<id>[=<socket>|<key>[,<key>]]")',
    },
    tag: { type: 'list', short: 't', help: 'Image identifier (format: "[registry/]repository[:tag]")' },
    target: { type: 'string', help: 'Set the target build stage to build' },
    'verify-cache': { type: 'boolean', help: 'Run what was reused again after the build, and compare' },
    'security-opt': later('Security options'),
    squash: later('Squash newly built layers into a single new layer', 'boolean', ['false']),
    isolation: later('Container isolation technology', 'string', ['', 'default']),
    compress: ignored('boolean'),
    'disable-content-trust': ignored('boolean'),
    'force-rm': ignored('boolean'),
    rm: ignored('boolean'),
  },
});
