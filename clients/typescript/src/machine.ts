/** Call `doubt` whenever the machine says that its network may have changed. Does nothing outside of browsers. */
export function watchMachine(doubt: () => void): () => void {
  const { window, document } = globalThis as { window?: Window; document?: Document };
  if (window === undefined || document === undefined || typeof window.addEventListener !== "function") {
    return () => undefined;
  }
  // A frozen tab's timers stood still: what it believes about its connection is old.
  const seen = (): void => void (document.visibilityState === "visible" && doubt());
  const names = ["online", "offline", "pageshow"];
  for (const name of names) window.addEventListener(name, doubt);
  document.addEventListener("visibilitychange", seen);
  return () => {
    for (const name of names) window.removeEventListener(name, doubt);
    document.removeEventListener("visibilitychange", seen);
  };
}
