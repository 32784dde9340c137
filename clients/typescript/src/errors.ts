import type { Refusal } from "./words.js";

/**
 * A refusal or a failure, with the stable `code` of docs/protocol.md section 7.
 *
 * The client's own codes: `closed` (the client or the session was closed by its owner), `given_up` (the
 * gateway closed for good), `aborted` (the caller's signal), `overflow` (a reader fell too far behind), `no_token` (the
 * page's `token` threw; it is asked again), `unreachable` (there was no answer).
 */
export class FabricError extends Error {
  override readonly name = "FabricError";

  constructor(
    readonly code: string,
    message: string,
    readonly retryable = false,
    readonly hint = "",
    readonly facts: Readonly<Record<string, unknown>> = {},
  ) {
    super(message.endsWith(hint) ? message : `${message} ${hint}`);
  }

  static from(refusal: Refusal): FabricError {
    const { op: _op, id: _id, code, message, retryable, hint, ...facts } = refusal;
    return new FabricError(code, message, retryable, hint, facts);
  }
}
