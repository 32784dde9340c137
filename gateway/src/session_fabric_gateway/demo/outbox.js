// @ts-check
// What was said and is not in the log yet, kept over a reload of the page.

/** @typedef {{id: string, text: string}} Unsent */

const key = (/** @type {string} */ session) => `session-fabric.unsent.${session}`;

/** @param {string} session @param {Unsent[]} messages */
export function keepUnsent(session, messages) {
  if (messages.length === 0) sessionStorage.removeItem(key(session));
  else sessionStorage.setItem(key(session), JSON.stringify(messages.map(({ id, text }) => ({ id, text }))));
}

/** @param {string} session @returns {Unsent[]} */
export function takeUnsent(session) {
  return JSON.parse(sessionStorage.getItem(key(session)) ?? "[]");
}
