/**
 * What is at hand, or a promise of it. Of tens of thousands of names most answers are in memory: to wait for each of them takes longer
 * than to find it.
 */
export type Soon<T> = T | Promise<T>;

/** `next` of `value`, at once where that is at hand. */
export function soon<T, U>(value: Soon<T>, next: (value: T) => Soon<U>): Soon<U> {
  return value instanceof Promise ? value.then(next) : next(value);
}
