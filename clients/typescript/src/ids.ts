/** Make an id nobody else has: 26 characters, 130 random bits. */
export function newId(prefix = ""): string {
  const bytes = crypto.getRandomValues(new Uint8Array(26));
  return prefix + Array.from(bytes, (byte) => (byte & 31).toString(32)).join("");
}
