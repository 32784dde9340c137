/** A bounded queue between a connection that pushes and one reader that pulls. */
export class Queue<Item> implements AsyncIterableIterator<Item> {
  private items: Item[] = [];
  /** Those that are next, the very next last. */
  private turned: Item[] = [];
  private wake: (() => void) | null = null;
  private ended = false;
  private error: Error | null = null;

  /** `overflow` makes the error with which a reader that is `max` items behind is ended, after those it has. */
  constructor(
    private readonly max: number,
    private readonly overflow: () => Error,
    private readonly left: () => void,
  ) {}

  push(items: readonly Item[]): void {
    for (const item of items) {
      if (this.ended) return;
      if (this.items.length + this.turned.length >= this.max) {
        this.end(this.overflow());
        this.left();
        return;
      }
      this.items.push(item);
    }
    this.wake?.();
  }

  /** Nothing more will be pushed; what is queued is still read. */
  end(error: Error | null): void {
    if (this.ended) return;
    this.ended = true;
    this.error = error;
    this.wake?.();
  }

  async next(): Promise<IteratorResult<Item, undefined>> {
    for (;;) {
      if (this.turned.length === 0) [this.turned, this.items] = [this.items.reverse(), []];
      const value = this.turned.pop();
      if (value !== undefined) return { done: false, value };
      if (this.ended) {
        if (this.error) throw this.error;
        return { done: true, value: undefined };
      }
      await new Promise<void>((resolve) => (this.wake = resolve));
      this.wake = null;
    }
  }

  return(): Promise<IteratorResult<Item, undefined>> {
    this.end(null);
    this.error = null;
    this.items = this.turned = [];
    this.left();
    return this.next();
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}
