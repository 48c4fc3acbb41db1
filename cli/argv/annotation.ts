import { type ImageAnnotation, UsageError } from '../../core/index.ts';
import { splitPair } from './csv.ts';
import { nearest } from './nearest.ts';

const PLACES = ['manifest', 'manifest-descriptor', 'index', 'index-descriptor'] as const;

/**
 * Values of `--annotation`: `NAME=VALUE` for the manifest, `index:NAME=VALUE`, `manifest[linux/amd64],index-descriptor:NAME=VALUE`
 * (https://docs.docker.com/reference/cli/docker/buildx/build/#annotation).
 *
 * @throws UsageError
 */
export function readAnnotations(values: readonly string[]): readonly ImageAnnotation[] {
  return values.flatMap((text) => {
    const [key, value] = splitPair(text);
    const colon = key.indexOf(':');
    const places = colon === -1 ? 'manifest' : key.slice(0, colon);
    const name = key.slice(colon + 1);
    if (value === undefined || name === '') {
      throw new UsageError(
        `invalid annotation ${JSON.stringify(text)}`,
        'Write NAME=VALUE, or index:NAME=VALUE for another place than the manifest.',
      );
    }
    return places.split(',').map((place) => {
      const [, word = place, platform] = /^([^[]+)\[([A-Za-z0-9_./-]+)\]$/.exec(place) ?? [];
      return annotationAt(
        word,
        { name, value, ...(platform === undefined ? {} : { platform }) },
        '--annotation',
      );
    });
  });
}

/** @throws UsageError that names `flag` where there is no such place. */
export function annotationAt(
  place: string,
  annotation: Omit<ImageAnnotation, 'at'>,
  flag: string,
): ImageAnnotation {
  const at = PLACES.find((known) => known === place);
  if (at === undefined) {
    const guess = nearest(place, PLACES);
    throw new UsageError(
      `${flag}: unknown place ${JSON.stringify(place)} of an annotation: use ${PLACES.join(', ')}`,
      guess === undefined ? undefined : `Did you mean ${guess}?`,
    );
  }
  const { platform } = annotation;
  if (platform !== undefined && at.startsWith('index'))
    throw new UsageError(`${flag}: an index is for all platforms: leave [${platform}] away`);
  return { at, ...annotation };
}
