/** Time, timers and chance, so that a test can hold them in its hand. */
export interface Clock {
  now(): number;
  random(): number;
  /** Call `task` once after `ms`; the returned function calls it off. */
  after(ms: number, task: () => void): () => void;
}

export const systemClock: Clock = {
  now: () => Date.now(),
  random: () => Math.random(),
  after(ms, task) {
    const timer = setTimeout(task, ms);
    return () => clearTimeout(timer);
  },
};
