/** Call `doubt` whenever the machine says that its network may have changed. Does nothing outside of browsers. */
export function watchMachine(doubt: () => void): () => void {
  const { window, document } = globalThis as { window?: Window; document?: Document };
  const stop = new AbortController();
  const { signal } = stop;
  for (const name of ["online", "offline", "pageshow"]) window?.addEventListener?.(name, doubt, { signal });
  // A frozen tab's timers stood still: what it believes about its connection is old.
  document?.addEventListener("visibilitychange", () => document.visibilityState === "visible" && doubt(), { signal });
  return () => stop.abort();
}
