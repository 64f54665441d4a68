/** Time as the client sees it, so that tests need not wait for it. */
export interface Clock {
  /** Milliseconds of a clock that never goes back. */
  now(): number;
  setTimeout(run: () => void, ms: number): unknown;
  clearTimeout(timer: unknown): void;
}

export const systemClock: Clock = {
  now: () => performance.now(),
  setTimeout: (run, ms) => setTimeout(run, ms),
  clearTimeout: (timer) => clearTimeout(timer as ReturnType<typeof setTimeout>),
};

/** The longest time that setTimeout takes; a longer one it would not wait for at all. */
const maxTimeoutMS = 2 ** 31 - 1;

/** A timer that can be set anew. */
export class Timer {
  readonly #clock: Clock;
  readonly #run: () => void;
  #timer: unknown = undefined;

  constructor(clock: Clock, run: () => void) {
    this.#clock = clock;
    this.#run = run;
  }

  set(ms: number): void {
    this.stop();
    this.#timer = this.#clock.setTimeout(
      () => {
        this.#timer = undefined;
        this.#run();
      },
      Math.min(Math.max(ms, 0), maxTimeoutMS),
    );
  }

  stop(): void {
    if (this.#timer !== undefined) {
      this.#clock.clearTimeout(this.#timer);
      this.#timer = undefined;
    }
  }
}
