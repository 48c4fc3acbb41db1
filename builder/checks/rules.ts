/**
 * A build check: https://docs.docker.com/reference/build-checks/. Name, description, page and messages are BuildKit's, to
 * the letter: tools look for them.
 */
export interface Rule {
  readonly name: string;
  readonly description: string;
  /** The page that explains the rule; absent where it has none. */
  readonly url?: string;
  /** Off unless it is asked for by name. */
  readonly experimental?: true;
}

const PAGES = 'https://docs.docker.com/go/dockerfile/rule/';

/** Every rule of frontend 1.26, in the reference's order. */
export const RULES = {
  copyIgnoredFile: {
    name: 'CopyIgnoredFile',
    description: 'Attempting to Copy file that is excluded by .dockerignore',
    url: `${PAGES}copy-ignored-file/`,
  },
  consistentInstructionCasing: {
    name: 'ConsistentInstructionCasing',
    description: 'All commands within the Dockerfile should use the same casing (either upper or lower)',
    url: `${PAGES}consistent-instruction-casing/`,
  },
  duplicateStageName: {
    name: 'DuplicateStageName',
    description: 'Stage names should be unique',
    url: `${PAGES}duplicate-stage-name/`,
  },
  exposeInvalidFormat: {
    name: 'ExposeInvalidFormat',
    description:
      'IP address and host-port mapping should not be used in EXPOSE instruction. This will become an error in a future release',
    url: `${PAGES}expose-invalid-format/`,
  },
  exposeProtoCasing: {
    name: 'ExposeProtoCasing',
    description: 'Protocol in EXPOSE instruction should be lowercase',
    url: `${PAGES}expose-proto-casing/`,
  },
  fromAsCasing: {
    name: 'FromAsCasing',
    description: "The 'as' keyword should match the case of the 'from' keyword",
    url: `${PAGES}from-as-casing/`,
  },
  fromPlatformFlagConstDisallowed: {
    name: 'FromPlatformFlagConstDisallowed',
    description: 'FROM --platform flag should not use a constant value',
    url: `${PAGES}from-platform-flag-const-disallowed/`,
  },
  invalidBaseImagePlatform: {
    name: 'InvalidBaseImagePlatform',
    description: 'Base image platform does not match expected target platform',
  },
  invalidDefaultArgInFrom: {
    name: 'InvalidDefaultArgInFrom',
    description: 'Default value for global ARG results in an empty or invalid base image name',
    url: `${PAGES}invalid-default-arg-in-from/`,
  },
  invalidDefinitionDescription: {
    name: 'InvalidDefinitionDescription',
    description:
      'Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`. If this is not intended to be a description comment, add an empty line or comment between the instruction and the comment.',
    url: `${PAGES}invalid-definition-description/`,
    experimental: true,
  },
  jsonArgsRecommended: {
    name: 'JSONArgsRecommended',
    description:
      'JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals',
    url: `${PAGES}json-args-recommended/`,
  },
  legacyKeyValueFormat: {
    name: 'LegacyKeyValueFormat',
    description: 'Legacy key/value format with whitespace separator should not be used',
    url: `${PAGES}legacy-key-value-format/`,
  },
  maintainerDeprecated: {
    name: 'MaintainerDeprecated',
    description: 'The MAINTAINER instruction is deprecated, use a label instead to define an image author',
    url: `${PAGES}maintainer-deprecated/`,
  },
  multipleInstructionsDisallowed: {
    name: 'MultipleInstructionsDisallowed',
    description: 'Multiple instructions of the same type should not be used in the same stage',
    url: `${PAGES}multiple-instructions-disallowed/`,
  },
  noEmptyContinuation: {
    name: 'NoEmptyContinuation',
    description: 'Empty continuation lines will become errors in a future release',
    url: `${PAGES}no-empty-continuation/`,
  },
  redundantTargetPlatform: {
    name: 'RedundantTargetPlatform',
    description:
      'Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior',
    url: `${PAGES}redundant-target-platform/`,
  },
  reservedStageName: {
    name: 'ReservedStageName',
    description: 'Reserved words should not be used as stage names',
    url: `${PAGES}reserved-stage-name/`,
  },
  secretsUsedInArgOrEnv: {
    name: 'SecretsUsedInArgOrEnv',
    description: 'Sensitive data should not be used in the ARG or ENV commands',
    url: `${PAGES}secrets-used-in-arg-or-env/`,
  },
  stageNameCasing: {
    name: 'StageNameCasing',
    description: 'Stage names should be lowercase',
    url: `${PAGES}stage-name-casing/`,
  },
  undefinedArgInFrom: {
    name: 'UndefinedArgInFrom',
    description: 'FROM command must use declared ARGs',
    url: `${PAGES}undefined-arg-in-from/`,
  },
  undefinedVar: {
    name: 'UndefinedVar',
    description: 'Variables should be defined before their use',
    url: `${PAGES}undefined-var/`,
  },
  workdirRelativePath: {
    name: 'WorkdirRelativePath',
    description:
      'Relative workdir without an absolute workdir declared within the build can have unexpected results if the base image changes',
    url: `${PAGES}workdir-relative-path/`,
  },
} as const satisfies Readonly<Record<string, Rule>>;

/** The rule of this name; undefined for the codes of other warnings. */
export function ruleNamed(name: string): Rule | undefined {
  return Object.values<Rule>(RULES).find((rule) => rule.name === name);
}
