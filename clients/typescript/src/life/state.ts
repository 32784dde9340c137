import { type ClientFrame, FabricError, type Session, type StatePush } from "../index.js";

/** A shared document as it is; `revision` 0 and a body of null where there is none. */
export interface DocumentState {
  readonly document: string;
  readonly revision: number;
  readonly body: Readonly<Record<string, unknown>> | null;
  readonly by: string | null;
  readonly ts: number | null;
}

export type DocumentEntry = Omit<DocumentState, "body">;

const ONE = "/state/{document}";
/** Where nothing is pushed, watched documents are asked for so often. */
const POLL_MS = 2_000;

/** The session's shared documents. A write that lost throws `conflict`: `facts.current` is what is there (missing: nothing), and `facts.revision` its revision. */
export function state(session: Session): Documents {
  return new Documents(session);
}

export class Documents {
  constructor(readonly session: Session) {}

  async get(document: string): Promise<DocumentState> {
    return plain(await this.session.ask<DocumentState>("state.get", { document }, `GET ${ONE}`));
  }

  /** Write a document. `revision` is compared: 0 for one that must not exist; null for whatever is there. */
  put(document: string, body: object, revision: number | null = null): Promise<DocumentState> {
    return this.write("state.put", `PUT ${ONE}`, document, revision, (current) => same(current, body), body);
  }

  /** Change a document by a JSON Merge Patch (RFC 7396): what is null in it is taken away. */
  patch(document: string, body: object, revision: number | null = null): Promise<DocumentState> {
    return this.write("state.patch", `PATCH ${ONE}`, document, revision, (current) => same(current, merged(current, body)), body);
  }

  delete(document: string, revision: number | null = null): Promise<DocumentState> {
    return this.write("state.delete", `DELETE ${ONE}`, document, revision, (current) => current === null);
  }

  /** The documents that there are, by name, without their bodies. */
  async list(): Promise<readonly DocumentEntry[]> {
    return (await this.session.ask<{ documents: DocumentEntry[] }>("state.list", {}, "GET /state")).documents;
  }

  /** A document's newest versions, at most 8, newest first; a body of null is a deletion. */
  async history(document: string): Promise<readonly DocumentState[]> {
    const answer = await this.session.ask<{ versions: DocumentState[] }>("state.history", { document }, `GET ${ONE}/history`);
    return answer.versions;
  }

  /**
   * Call `changed` with a document (null: with all) as it is and at each change, over every reconnect; a slow
   * connection gets the newest value. `ended` says why it is over, if it is. The returned function stops it.
   */
  watch(document: string | null, changed: (state: DocumentState) => void, ended?: (error: FabricError) => void): () => void {
    const { session } = this;
    const known = new Map<string, DocumentState>();
    const fields = document === null ? {} : { document };
    let stopped = false;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const watchers = watchersOf(session, document);
    const offs: (() => void)[] = [];
    const stop = (): void => {
      if (stopped) return;
      stopped = true;
      clearTimeout(timer);
      for (const off of offs) off();
      watchers.delete(stop);
      if (watchers.size === 0) unwatch(session, document, fields);
    };
    const over = (error: FabricError): void => (stopped ? undefined : (stop(), ended?.(error)));
    const take = (value: DocumentState): void => {
      const last = known.get(value.document);
      if (stopped || (last !== undefined && value.revision <= last.revision && same(value.body, last.body))) return;
      // Of an older answer that was on its way while a newer value was pushed.
      if (last !== undefined && value.revision < last.revision && value.ts !== null && value.ts < (last.ts ?? 0)) return;
      known.set(value.document, value);
      changed(plain(value));
    };
    /** Look for what is not pushed: all of it over HTTP, and what was deleted while we were away. */
    const look = async (all: boolean): Promise<void> => {
      const names = document === null ? new Set((await this.list()).map((one) => one.document)) : new Set([document]);
      for (const [name, { body }] of known) if (body !== null && !names.has(name)) take(await this.get(name));
      if (all) for (const name of names) take(await this.get(name));
    };
    const poll = (): void => {
      look(true).then(
        () => stopped || (timer = setTimeout(poll, POLL_MS)),
        (error: unknown) => over(error as FabricError),
      );
    };
    const begin = (): void => {
      clearTimeout(timer);
      session.ask("state.watch", fields).then(
        () => (document === null && known.size > 0 ? look(false).catch(() => undefined) : undefined),
        (error: unknown) => ((error as FabricError).code === "unsupported" ? stopped || poll() : over(error as FabricError)),
      );
    };
    watchers.add(stop);
    offs.push(
      session.on("state", (push: StatePush) => void ((document === null ? !push.document.startsWith("_") : push.document === document) && take(push))),
      session.on("gone", ({ code, message }) => over(new FabricError(code, message))),
      session.client.on("welcome", begin),
    );
    begin();
    return stop;
  }

  private async write(
    op: "state.put" | "state.patch" | "state.delete",
    via: `${"PUT" | "PATCH" | "DELETE"} /${string}`,
    document: string,
    revision: number | null,
    done: (current: unknown) => boolean,
    body?: object,
  ): Promise<DocumentState> {
    const fields = { document, ...(body === undefined ? {} : { body }), ...(revision === null ? {} : { revision }) };
    let again = 0;
    try {
      const answer = await this.session.client.ask((tries) => {
        again = tries;
        return { ...fields, op, session: this.session.name, via } as ClientFrame;
      });
      return plain(answer as unknown as DocumentState);
    } catch (error) {
      // Of a write whose answer was lost, the next try finds what it has written itself.
      if (again === 0 || !(error instanceof FabricError) || error.code !== "conflict") throw error;
      const current = (error.facts["current"] ?? { document, revision: 0, body: null, by: null, ts: null }) as DocumentState;
      if (!done(current.body)) throw error;
      return plain(current);
    }
  }
}

/** Who watches a document of a session: the last one to leave ends it at the gateway. */
const watched = new WeakMap<Session, Map<string | null, Set<unknown>>>();

function watchersOf(session: Session, document: string | null): Set<unknown> {
  const documents = watched.get(session) ?? new Map<string | null, Set<unknown>>();
  watched.set(session, documents);
  const found = documents.get(document) ?? new Set();
  documents.set(document, found);
  return found;
}

function unwatch(session: Session, document: string | null, fields: object): void {
  const others = [...(watched.get(session) ?? [])].filter(([, set]) => set.size > 0);
  // Without a document the gateway ends all of the session: the others are watched anew then.
  session
    .ask("state.unwatch", { ...fields })
    .then(() => Promise.all(document === null ? others.map(([name]) => session.ask("state.watch", { document: name })) : []))
    .catch(() => undefined);
}

const plain = ({ document, revision, body, by, ts }: DocumentState): DocumentState => ({ document, revision, body, by, ts });

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null && !Array.isArray(value);

/** RFC 7396. */
function merged(target: unknown, patch: unknown): unknown {
  if (!isObject(patch)) return patch;
  const result: Record<string, unknown> = isObject(target) ? { ...target } : {};
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) delete result[name];
    else result[name] = merged(result[name], value);
  }
  return result;
}

/** Equal as JSON. */
function same(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null || Array.isArray(a) !== Array.isArray(b)) return false;
  const left = Object.entries(a).filter(([, value]) => value !== undefined);
  const right = new Map(Object.entries(b).filter(([, value]) => value !== undefined));
  return left.length === right.size && left.every(([name, value]) => right.has(name) && same(value, right.get(name)));
}
