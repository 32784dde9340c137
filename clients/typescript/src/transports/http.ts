import type { Transport } from "./transport.js";

export function httpTransports(): Transport[] {
  return [];
}
