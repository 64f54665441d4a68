export const systemClock = {
    now: () => performance.now(),
    setTimeout: (run, ms) => setTimeout(run, ms),
    clearTimeout: (timer) => clearTimeout(timer),
};
/** The longest time that setTimeout takes; a longer one it would not wait for at all. */
const maxTimeoutMS = 2 ** 31 - 1;
/** A timer that can be set anew. */
export class Timer {
    #clock;
    #run;
    #timer = undefined;
    constructor(clock, run) {
        this.#clock = clock;
        this.#run = run;
    }
    set(ms) {
        this.stop();
        this.#timer = this.#clock.setTimeout(() => {
            this.#timer = undefined;
            this.#run();
        }, Math.min(Math.max(ms, 0), maxTimeoutMS));
    }
    stop() {
        if (this.#timer !== undefined) {
            this.#clock.clearTimeout(this.#timer);
            this.#timer = undefined;
        }
    }
}
