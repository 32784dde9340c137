import { Emitter } from "../index.js";

/** Something that listens, tells of its changes, and can be closed. */
export class Changing {
  protected readonly offs: (() => void)[] = [];
  private readonly emitter = new Emitter<{ change: undefined }>();

  /** Call `listener` after each change; the returned function takes it away again. */
  on(name: "change", listener: () => void): () => void {
    return this.emitter.on(name, listener);
  }

  /** Listen no more. */
  close(): void {
    for (const off of this.offs.splice(0)) off();
  }

  protected changed(): void {
    this.emitter.emit("change", undefined);
  }
}
