// What a process of a trial has in Node: the pipe to whoever began it, its journal, and a clock that can be stepped.
import { openSync, writeSync } from "node:fs";
import { Socket } from "node:net";

/** The other end is a Python `Connection`: four bytes of length, then JSON. Ends the process when that end is closed. */
export class Pipe {
  #socket = new Socket({ fd: 3 });
  #data = Buffer.alloc(0);
  #told = {};
  #wake = () => undefined;

  constructor(heard) {
    this.#socket.on("data", (more) => {
      this.#data = Buffer.concat([this.#data, more]);
      for (let size; this.#data.length >= 4 && this.#data.length >= 4 + (size = this.#data.readUInt32BE(0)); ) {
        const what = JSON.parse(this.#data.subarray(4, 4 + size).toString());
        this.#data = this.#data.subarray(4 + size);
        Object.assign(this.#told, what);
        heard(what);
        this.#wake();
      }
    });
    this.#socket.on("close", () => process.exit(1));
    this.#socket.on("error", () => process.exit(1));
  }

  say(what) {
    const body = Buffer.from(JSON.stringify(what));
    const size = Buffer.alloc(4);
    size.writeUInt32BE(body.length);
    this.#socket.write(Buffer.concat([size, body]));
  }

  /** Wait until told this; return what was said of it. */
  async until(what) {
    while (!(what in this.#told)) await new Promise((resolve) => (this.#wake = resolve));
    return this.#told[what];
  }
}

/** Lines as `tests/fault/journal.py` has them, by the machine's monotonic clock; each is with the kernel on return. */
export class Journal {
  #file;

  constructor(directory, who) {
    this.#file = openSync(`${directory}/${who}.jsonl`, "a");
  }

  note(kind, who, more) {
    const at = Number(process.hrtime.bigint()) / 1e9;
    writeSync(this.#file, `${JSON.stringify({ kind, who, at, ...more })}\n`);
  }
}

let offsetMs = 0;
const real = Date.now;
Date.now = () => real() + offsetMs;

/** Have this process's wall clock be wrong by so much; the monotonic one is not touched. */
export function stepClock(seconds) {
  offsetMs = seconds * 1_000;
}
