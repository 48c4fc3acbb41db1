/** Where signals come from: `process`, or an emitter in tests. */
export interface SignalSource {
  on(signal: NodeJS.Signals, listener: (signal: NodeJS.Signals) => void): unknown;
  off(signal: NodeJS.Signals, listener: (signal: NodeJS.Signals) => void): unknown;
}

/** Exit code of a command that was interrupted. */
export const INTERRUPTED = 130;

const STOPPING = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
/** What `run` passes on: everything that a person or a supervisor sends on purpose. */
const FORWARDED = [...STOPPING, 'SIGQUIT', 'SIGUSR1', 'SIGUSR2', 'SIGCONT'] as const;

/**
 * Ctrl-C and its like:
 *
 *     idle --first stop--> aborted (`signal` fires; work winds up) --second stop--> exit at once, code 130
 *     forwarding (between `forward()` and its disposal): every signal goes to the container;
 *     the third stop aborts, the fourth exits at once
 */
export class Interrupt implements Disposable {
  readonly #source: SignalSource;
  readonly #exitNow: (code: number) => void;
  readonly #controller = new AbortController();
  #forwarding: { readonly to: (signal: NodeJS.Signals) => void; stops: number } | undefined;

  constructor(source: SignalSource, exitNow: (code: number) => void) {
    this.#source = source;
    this.#exitNow = exitNow;
    for (const signal of STOPPING) source.on(signal, this.#stop);
  }

  /** Fires at the first request to stop. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** From now until disposal, signals go to `to`. */
  forward(to: (signal: NodeJS.Signals) => void): Disposable {
    this.#forwarding = { to, stops: 0 };
    const extra = FORWARDED.filter((signal) => !(STOPPING as readonly string[]).includes(signal));
    for (const signal of extra) this.#source.on(signal, to);
    return {
      [Symbol.dispose]: () => {
        this.#forwarding = undefined;
        for (const signal of extra) this.#source.off(signal, to);
      },
    };
  }

  /** As if `signal` had come: for a Ctrl-C that a terminal in raw mode gives as a key. */
  stop(signal: NodeJS.Signals): void {
    this.#stop(signal);
  }

  [Symbol.dispose](): void {
    for (const signal of STOPPING) this.#source.off(signal, this.#stop);
  }

  readonly #stop = (signal: NodeJS.Signals): void => {
    if (this.#forwarding !== undefined) {
      this.#forwarding.stops += 1;
      if (this.#forwarding.stops < 3) {
        this.#forwarding.to(signal);
        return;
      }
    }
    if (this.signal.aborted) this.#exitNow(INTERRUPTED);
    else this.#controller.abort(new DOMException(`stopped by ${signal}`, 'AbortError'));
  };
}
