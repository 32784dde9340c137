/**
 * The id of the run that answers an input, from the id of the input's event (docs/protocol.md, section 3). Undefined on
 * pages that are not served securely: they have no hashes, and learn it when the run begins.
 */
export async function runOf(event: string): Promise<string | undefined> {
  const { subtle } = globalThis.crypto as Partial<Crypto>;
  if (subtle === undefined) return undefined;
  const hash = new Uint8Array(await subtle.digest("SHA-256", new TextEncoder().encode(event)));
  return `run-${Array.from(hash.subarray(0, 12), (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}
