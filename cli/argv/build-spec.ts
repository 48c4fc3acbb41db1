import { LIMIT_FLAGS, NO_NEW_PRIVILEGES } from './sandbox-options.ts';
import { defineSpec, type FlagSpec } from './spec.ts';

const NO = ['false', '0', 'f', 'F', 'FALSE', 'False'];
const refused = (
  help: string,
  why: string,
  flag: { type?: FlagSpec['type']; except?: readonly string[] } = {},
) => ({ type: flag.type ?? 'list', help, unsupported: { except: flag.except ?? [], why } }) as const;
const NO_ATTESTATIONS = 'varve makes no attestations; --provenance=false and --sbom=false ask for none';
const NO_SERVER = 'varve builds in its own process, without a server';
/** A flag that BuildKit takes with a warning too. */
const ineffective = <Type extends FlagSpec['type']>(
  type: Type,
  why: string,
  except: readonly string[] = [],
) => ({ type, help: 'Has no effect', hidden: true, ineffective: { why, except } }) as const;
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
    attest: refused('Attestation parameters', NO_ATTESTATIONS, {
      except: ['provenance', 'sbom'].flatMap((type) => [
        `type=${type},disabled=true`,
        `disabled=true,type=${type}`,
      ]),
    }),
    'build-arg': { type: 'list', help: 'Set build-time variables' },
    'build-context': { type: 'list', help: 'Additional build contexts (e.g., name=path)' },
    builder: refused('Override the configured builder instance', 'varve is the only builder that there is', {
      type: 'string',
      except: ['', 'default'],
    }),
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
    'cache-from': ineffective(
      'list',
      'varve imports no cache; steps are reused out of its own state folder',
      [''],
    ),
    'cache-to': refused(
      'Cache export destinations',
      'varve exports no cache; it keeps one in its state folder',
      {
        except: [''],
      },
    ),
    call: {
      type: 'string',
      aliases: ['print'],
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
      shownDefault: 'CPUs, at least 8',
    },
    platform: { type: 'list', help: 'Set target platform for build' },
    progress: {
      type: 'string',
      help: 'Set type of progress output',
      choices: ['auto', 'tty', 'plain', 'rawjson', 'quiet'],
      shownDefault: '"auto"',
    },
    policy: refused('Policy configuration', 'varve reads no policies for sources', { except: [] }),
    provenance: refused('Shorthand for "--attest=type=provenance"', NO_ATTESTATIONS, {
      type: 'string',
      except: ['', ...NO, 'disabled=true'],
    }),
    pull: { type: 'boolean', help: 'Always attempt to pull all referenced images' },
    push: { type: 'boolean', help: 'Shorthand for "--output=type=registry"' },
    quiet: {
      type: 'boolean',
      short: 'q',
      help: 'Suppress the build output and print image ID on success',
    },
    sbom: refused('Shorthand for "--attest=type=sbom"', NO_ATTESTATIONS, {
      type: 'string',
      except: ['', ...NO, 'disabled=true'],
    }),
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
    'security-opt': {
      ...ineffective(
        'list',
        'only no-new-privileges can be said of all steps; RUN --security=insecure takes rights for one',
        NO_NEW_PRIVILEGES,
      ),
    },
    squash: ineffective('boolean', 'layers stay as they are; copy from a stage to have fewer', NO),
    isolation: ineffective('string', 'every step has the same sandbox', ['', 'default']),
    detach: refused('Detach buildx server', NO_SERVER, { type: 'boolean', except: NO }),
    'server-config': refused('Specify buildx server config file', NO_SERVER, { type: 'string' }),
    compress: ignored('boolean'),
    'disable-content-trust': ignored('boolean'),
    'force-rm': ignored('boolean'),
    rm: ignored('boolean'),
  },
});
