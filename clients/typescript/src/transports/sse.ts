export interface ServerSentEvent {
  readonly event: string;
  readonly data: string;
}

/** Takes a `text/event-stream` apart, however it was cut on its way. A rule: text comes in, events go out. */
export class SseParser {
  private rest = "";
  private event = "";
  private data: string[] = [];

  push(text: string): ServerSentEvent[] {
    const found: ServerSentEvent[] = [];
    const lines = (this.rest + text).split(/\r\n|\n|\r(?!$)/);
    this.rest = lines.pop() ?? "";
    for (const line of lines) {
      if (line === "") {
        if (this.data.length > 0) found.push({ event: this.event || "message", data: this.data.join("\n") });
        this.event = "";
        this.data = [];
        continue;
      }
      const [, field, value = ""] = /^([^:]*):? ?(.*)/s.exec(line)!;
      if (field === "event") this.event = value;
      else if (field === "data") this.data.push(value);
    }
    return found;
  }
}
