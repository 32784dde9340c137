/** Listeners by name. A listener that throws stops nobody else; its error is reported as uncaught. */
export class Emitter<Events extends { [name in keyof Events]: unknown }> {
  private readonly listeners = new Map<keyof Events, Set<(value: never) => void>>();

  /** Call `listener` for each; the returned function takes it away again. */
  on<Name extends keyof Events>(name: Name, listener: (value: Events[Name]) => void): () => void {
    const set = this.listeners.get(name) ?? new Set();
    this.listeners.set(name, set);
    set.add(listener as (value: never) => void);
    return () => void set.delete(listener as (value: never) => void);
  }

  emit<Name extends keyof Events>(name: Name, value: Events[Name]): void {
    for (const listener of [...(this.listeners.get(name) ?? [])]) {
      try {
        (listener as (value: Events[Name]) => void)(value);
      } catch (error) {
        // Thrown outside of our own stack, so that one listener cannot break the connection.
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }
}
