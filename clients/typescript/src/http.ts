import type { Token } from "./connection.js";
import { FabricError } from "./errors.js";
import type { Trace, TraceSource } from "./trace.js";

export interface HttpRequest {
  readonly query?: Readonly<Record<string, string | number | undefined>>;
  readonly body?: unknown;
  readonly signal?: AbortSignal;
  /** What it is part of; what the client knows of that otherwise. */
  readonly trace?: Trace | undefined;
}

/** The HTTP face of a gateway (docs/protocol.md section 5). */
export class Http {
  constructor(
    readonly url: string,
    public token: Token,
    private readonly source?: TraceSource,
  ) {}

  /** What a call made now is part of, and nothing else that its source may know. */
  trace(): Trace {
    const { traceparent, tracestate = "" } = this.source?.() ?? {};
    return traceparent ? { traceparent, tracestate } : {};
  }

  /** Send one request and read its JSON. Throws `FabricError`; `unreachable` when there was no answer. */
  async json<Result>(method: string, path: string, request: HttpRequest = {}): Promise<Result> {
    const response = await this.send(method, path, request);
    return (response.status === 204 ? undefined : await response.json()) as Result;
  }

  async send(method: string, path: string, request: HttpRequest = {}, accept = "application/json"): Promise<Response> {
    // Before anything is waited for: after it the caller's context is not known any more.
    const headers: Record<string, string> = { accept, ...(request.trace ?? this.trace()) };
    const token = await tokenOf(this.token);
    if (token) headers["authorization"] = `Bearer ${token}`;
    if (request.body !== undefined) headers["content-type"] = "application/json";
    // JSON leaves out what is undefined.
    const query = new URLSearchParams(JSON.parse(JSON.stringify(request.query ?? {})) as Record<string, string>);
    let response: Response;
    try {
      response = await fetch(`${this.url}${path}${query.size ? `?${query}` : ""}`, {
        method,
        headers,
        body: JSON.stringify(request.body) as string,
        signal: request.signal as AbortSignal,
        cache: "no-store",
      });
    } catch (error) {
      throw new FabricError("unreachable", `${method} ${path} had no answer: ${error}.`, true);
    }
    if (response.ok) return response;
    throw await problem(response);
  }
}

/** Ask for a token where it is to be asked for. */
export const tokenOf = async (token: Token): Promise<string | undefined> => (typeof token === "function" ? token() : token);

async function problem(response: Response): Promise<FabricError> {
  const { status } = response;
  // Of what is not the gateway's own answer (a proxy's page) the status is all there is.
  const facts = ((await response.json().catch(() => null)) ?? {}) as Record<string, unknown>;
  const { code = "internal", detail = facts["title"] ?? `The gateway answered ${status}.`, retryable, hint = "", ...rest } = facts;
  return new FabricError(`${code}`, `${detail}`, !!(retryable ?? (status >= 500 || status === 429)), `${hint}`, rest);
}
