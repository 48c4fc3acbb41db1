declare const brand: unique symbol;

/** A plain `T` at run time that the compiler refuses to mix with other `T`s. */
export type Brand<T, Name extends string> = T & { readonly [brand]: Name };
