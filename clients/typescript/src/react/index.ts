/** Hooks for React 18 and 19 over sessions. Any number of components share one subscription of a session. */
import { createContext, createElement, type ReactNode, useContext, useEffect, useMemo, useSyncExternalStore } from "react";
import { type Feed, feedOf } from "../feed/index.js";
import { type Client, type Conversation, FabricError, type Message, newId, type Run, type Sending, type Session, type Status } from "../index.js";
import { type DocumentState, type OpenRequest, type Outcome, outcomeOf, presence, type Presence, state } from "../life/index.js";

const Context = createContext<Client | null>(null);

/** Say once which client the components below use. Not needed where hooks are given a session or a client. */
export function FabricProvider({ client, children }: { readonly client: Client; readonly children?: ReactNode }): ReactNode {
  return createElement(Context.Provider, { value: client }, children);
}

/** The client that is given, else the provider's. */
export function useClient(client?: Client): Client {
  const provided = useContext(Context);
  const found = client ?? provided;
  if (found === null) throw new FabricError("invalid_request", "There is no client.", false, "Give one, or put a FabricProvider above.");
  return found;
}

/** How the connection is. */
export function useStatus(client?: Client): Status {
  const used = useClient(client);
  const subscribe = useMemo(() => (changed: () => void) => used.on("status", changed), [used]);
  const read = (): Status => used.status;
  return useSyncExternalStore(subscribe, read, read);
}

/** A session by name. It is opened by the first hook that shows something of it, and closed with the last. */
export function useSession(name: string, client?: Client): Session {
  return useClient(client).session(name);
}

export interface Shown {
  /** The branch that is shown. */
  readonly messages: readonly Message[];
  /** What was sent and the log does not have yet. */
  readonly sending: readonly Sending[];
  readonly activeRuns: readonly Run[];
  /** Those of them whose agent has lost its connection: a moment later it is back, or the log says what becomes of the run. */
  readonly awayRuns: readonly Run[];
  readonly stage: Conversation["stage"];
  readonly error: FabricError | null;
}

const NOTHING: Shown = { messages: [], sending: [], activeRuns: [], awayRuns: [], stage: "opening", error: null };

/** A session as people see it, and what to do in it. */
export function useConversation(session: Session): Shown & Pick<Conversation, "send" | "resend" | "stop"> {
  const shown = useFeed(session, NOTHING, ({ conversation: { path: messages, sending, activeRuns, stage, error }, agents: { away } }) => {
    const awayRuns = activeRuns.filter(({ id }) => away.some(({ run }) => run === id));
    return { messages, sending, activeRuns, awayRuns, stage, error };
  });
  const acts = useMemo(
    () => ({
      send: (text: string, id?: string) => during(session, ({ conversation }) => conversation.send(text, id)),
      resend: (id: string) => during(session, ({ conversation }) => conversation.resend(id)),
      stop: () => during(session, ({ conversation }) => conversation.stop()),
    }),
    [session],
  );
  return { ...shown, ...acts };
}

/** The messages that are shown, each the same object for as long as it has not changed. */
export function useMessages(session: Session): readonly Message[] {
  return useFeed(session, NOTHING.messages, ({ conversation }) => conversation.path);
}

/** A run, or the newest one that goes on; null: there is none. `control` resolves with what became of it. */
export function useRun(session: Session, id?: string): { readonly run: Run | null; control(action: "cancel" | "interrupt" | "steer", text?: string): Promise<Outcome> } {
  const run = useFeed<Run | null>(session, null, (feed) => (id === undefined ? feed.active : feed.run(id)) ?? null, id);
  const control = async (action: "cancel" | "interrupt" | "steer", text?: string): Promise<Outcome> => {
    if (run === null) throw new FabricError("run_closed", "There is no run to be asked.");
    const request = newId("c");
    return during(session, async () => {
      const outcome = outcomeOf(session, request);
      await session.control(action, run.id, { id: request, ...(text === undefined ? {} : { body: { text } }) });
      return outcome;
    });
  };
  return { run, control };
}

/** What is asked of this device and not answered yet, oldest first. */
export function useRequests(session: Session): { readonly open: readonly OpenRequest[]; answer(id: string, body: unknown): Promise<unknown>; fail(id: string, error: string): Promise<unknown> } {
  const open = useFeed<readonly OpenRequest[]>(session, [], ({ requests }) => requests.open.filter((one) => requests.mine(one)));
  return useMemo(
    () => ({ open, answer: (id, body) => during(session, ({ requests }) => requests.answer(id, body)), fail: (id, error) => during(session, ({ requests }) => requests.fail(id, error)) }),
    [session, open],
  );
}

/** Who is there, and who is typing. `show`: be shown to the others, with this data. */
export function usePresence(session: Session, show?: Readonly<Record<string, unknown>>): { readonly members: Presence["members"]; readonly typing: Presence["typing"]; startedTyping(): void } {
  const store = useMemo(() => {
    let present: Presence | null = null;
    let value: { readonly members: Presence["members"]; readonly typing: Presence["typing"] } = { members: [], typing: [] };
    const subscribe = (changed: () => void): (() => void) => {
      const leave = feedOf(session).use();
      const made = (present = presence(session));
      const look = (): void => {
        value = { members: made.members, typing: made.typing };
        changed();
      };
      const off = made.on("change", look);
      return () => (off(), made.close(), leave());
    };
    return { subscribe, read: () => value, now: () => present };
  }, [session]);
  const shown = useSyncExternalStore(store.subscribe, store.read, store.read);
  const data = show === undefined ? undefined : JSON.stringify(show);
  useEffect(() => {
    if (data === undefined) return;
    store.now()?.update({ data: JSON.parse(data) as Record<string, unknown> }).catch(() => undefined); // over HTTP it cannot be said
    return () => void store.now()?.leave().catch(() => undefined);
  }, [store, data]);
  return { ...shown, startedTyping: () => store.now()?.startedTyping() };
}

/** A shared document as it is, and how to change it. `document` is null until it is known. */
export function useDocument(session: Session, name: string): { readonly document: DocumentState | null; put(body: object): Promise<DocumentState>; patch(body: object): Promise<DocumentState> } {
  const store = useMemo(() => {
    let value: DocumentState | null = null;
    const subscribe = (changed: () => void): (() => void) => {
      const take = (document: DocumentState): void => {
        value = document;
        changed();
      };
      const feed = feedOf(session);
      const offs = [feed.use()];
      const begin = async (): Promise<void> => {
        await feed.ready(); // the session is there then
        if (offs.length === 0) return;
        offs.push(state(session).watch(name, take));
        // Of a document that is not there nothing is pushed.
        const document = await state(session).get(name);
        if (offs.length > 0 && value === null) take(document);
      };
      begin().catch(() => undefined); // what is over stays as it was
      return () => {
        for (const off of offs.splice(0)) off();
      };
    };
    return { subscribe, read: () => value };
  }, [session, name]);
  const document = useSyncExternalStore(store.subscribe, store.read, () => null);
  // A write counts on what is shown: another one's that came between is not lost.
  const revision = document?.revision ?? null;
  return { document, put: (body) => state(session).put(name, body, revision), patch: (body) => state(session).patch(name, body) };
}

/** Do something in a session, which stays open for that though nobody shows it any more; who comes back meanwhile sees it. */
async function during<Result>(session: Session, act: (feed: Feed) => Promise<Result>): Promise<Result> {
  const feed = feedOf(session);
  const leave = feed.use();
  try {
    return await act(feed);
  } finally {
    leave();
  }
}

/** Something of a session's feed, read anew with each change, at most once a frame. Opens the session while it is shown. */
function useFeed<Value>(session: Session, nothing: Value, read: (feed: Feed) => Value, key?: string): Value {
  const store = useMemo(() => {
    let value = nothing;
    const subscribe = (changed: () => void): (() => void) => {
      const feed = feedOf(session);
      const leave = feed.use();
      const look = (): void => {
        value = read(feed);
        changed();
      };
      const offs = [feed.conversation.on("change", look), feed.requests.on("change", look), feed.agents.on("change", look)];
      value = read(feed);
      return () => {
        for (const off of offs) off();
        leave();
      };
    };
    return { subscribe, read: () => value };
    // What is read, and of nothing, does not depend on the render.
  }, [session, key]);
  return useSyncExternalStore(store.subscribe, store.read, () => nothing);
}
