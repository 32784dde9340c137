/** What Node lacks of a browser: Web Locks, for the tabs of one process; and a socket whose other end is the test. */

type Granted = (lock: Lock | null) => unknown;
interface Held {
  name: string;
  steal(): void;
}
interface Waiting {
  name: string;
  grant(): void;
}

/** Exclusive locks as w3c.github.io/web-locks says: one holder a name, the rest in their order; `steal`, `signal`. */
class Locks {
  private readonly held = new Map<string, Held>();
  private waiting: Waiting[] = [];

  request(name: string, given: LockOptions | Granted, then?: Granted): Promise<unknown> {
    const [options, granted] = typeof given === "function" ? [{}, given] : [given, then!];
    return new Promise((resolve, reject) => {
      const aborted = (): void => reject(new DOMException("off", "AbortError"));
      if (options.signal?.aborted) return aborted();
      const one: Waiting = {
        name,
        grant: () => {
          options.signal?.removeEventListener("abort", calledOff);
          const held: Held = { name, steal: aborted };
          this.held.set(name, held);
          void Promise.resolve()
            .then(() => granted({ name, mode: "exclusive" }))
            .then(resolve, reject)
            .finally(() => {
              if (this.held.get(name) !== held) return;
              this.held.delete(name);
              this.next(name);
            });
        },
      };
      const calledOff = (): void => {
        this.waiting = this.waiting.filter((other) => other !== one);
        aborted();
      };
      options.signal?.addEventListener("abort", calledOff, { once: true });
      if (options.steal) {
        this.held.get(name)?.steal();
        this.held.delete(name);
        return one.grant();
      }
      this.waiting.push(one);
      this.next(name);
    });
  }

  private next(name: string): void {
    if (this.held.has(name)) return;
    const one = this.waiting.find((other) => other.name === name);
    if (one === undefined) return;
    this.waiting = this.waiting.filter((other) => other !== one);
    one.grant();
  }
}

/** Have this process be a browser of which each client is a tab. */
export function asBrowser(): void {
  Object.defineProperty(globalThis, "navigator", { value: { locks: new Locks() }, configurable: true });
}

/** A socket as a gateway that the test plays has it. `HandSocket.all` are those that were opened. */
export class HandSocket {
  static all: HandSocket[] = [];
  readonly said: string[] = [];
  readyState = 0;
  protocol = "";
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: string }) => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;
  onerror: (() => void) | null = null;
  closed = false;

  constructor(
    readonly url: string,
    readonly protocols: string[],
  ) {
    HandSocket.all.push(this);
  }

  send(text: string): void {
    this.said.push(text);
  }

  close(): void {
    this.closed = true;
    this.readyState = 3;
  }

  open(protocol = this.protocols[0] ?? ""): void {
    this.protocol = protocol;
    this.readyState = 1;
    this.onopen?.();
  }

  say(...texts: string[]): void {
    for (const data of texts) this.onmessage?.({ data });
  }
}
