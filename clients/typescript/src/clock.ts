/** Time, timers and chance, so that a test can hold them in its hand. */
export interface Clock {
  /** Milliseconds since some moment; never goes back. */
  now(): number;
  random(): number;
  /** Call `task` once after `ms`; the returned function calls it off. */
  after(ms: number, task: () => void): () => void;
}

let last = Date.now();
let passed = 0;

export const systemClock: Clock = {
  /**
   * Passes as `Date.now` does, while the machine sleeps too (`performance.now` stands still then in some browsers), and
   * stands still where the time is set back: a silence would else count from when that time has come again.
   */
  now() {
    const now = Date.now();
    passed += Math.max(0, now - last);
    last = now;
    return passed;
  },
  random: () => Math.random(),
  after(ms, task) {
    const timer = setTimeout(task, ms);
    return () => clearTimeout(timer);
  },
};
