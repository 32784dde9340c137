/** What a call is part of: W3C trace context, as OpenTelemetry's `propagation.inject` writes it. */
export interface Trace {
  readonly traceparent?: string;
  readonly tracestate?: string;
}

/** Asked at each call, within the context of the caller. */
export type TraceSource = () => Trace;
