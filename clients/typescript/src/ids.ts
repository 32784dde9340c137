const ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZabcdefghijkmnopqrstuvwxyz_-ABCDE";

/** Make an id nobody else has: 22 characters, more than 120 random bits. */
export function newId(prefix = ""): string {
  const bytes = crypto.getRandomValues(new Uint8Array(22));
  return prefix + Array.from(bytes, (byte) => ALPHABET[byte & 63]).join("");
}
