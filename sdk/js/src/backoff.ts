/**
 * Exponential back-off with full jitter: clients that lost the same server come back spread over the
 * whole interval.
 */
export class Backoff {
  readonly minMS: number;
  readonly maxMS: number;
  readonly #jitter: (maxMS: number) => number;
  #tries = 0; // in a row, without a login that held

  constructor(minMS: number, maxMS: number, jitter: (maxMS: number) => number) {
    this.minMS = minMS;
    this.maxMS = maxMS;
    this.#jitter = jitter;
  }

  /**
   * How long to wait before the next try. A link that was logged in for the longest back-off starts the
   * row anew; one that was not may be part of the trouble.
   */
  next(heldMS: number): number {
    if (heldMS >= this.maxMS) {
      this.#tries = 0;
    }
    const ceiling = Math.min(this.maxMS, this.minMS * 2 ** this.#tries);
    this.#tries++;
    return this.#jitter(ceiling);
  }

  /** A short wait, for those who leave one server together. */
  spread(): number {
    return this.#jitter(this.minMS);
  }
}
