// @ts-check
// One connection to the page's own gateway, as one device; and what both pages say of how it goes.
import { connect, newId } from "./session-fabric.js";

/** @typedef {import("@session-fabric/client").Client} Client */
/** @typedef {import("@session-fabric/client").FabricError} FabricError */

export const USER = "session-fabric.token";
export const OPERATOR = "session-fabric.operator-token";
const WORDS = { live: "Live", connecting: "Connecting", reconnecting: "Reconnecting", closed: "Disconnected", "broker-lost": "Broker lost, waiting" };

export const $ = (/** @type {string} */ id) => /** @type {HTMLElement} */ (document.getElementById(id));

/** `#token=…&operator=…` is how `fabricctl dev` hands tokens over: kept, and taken out of the address. */
export function takeTokens(/** @type {string} */ own) {
  const given = new URLSearchParams(location.hash.slice(1));
  const tokens = /** @type {const} */ ([[own, given.get("token")], [OPERATOR, given.get("operator")]]);
  if (tokens.every(([, token]) => token === null)) return;
  for (const [key, token] of tokens) if (token !== null) localStorage.setItem(key, token);
  history.replaceState(null, "", `${location.pathname}${location.search}#${given.get("session") ?? ""}`);
}

/** The session that the address names; none is a new one, which begins with its first message. */
export const named = () => decodeURIComponent(location.hash.slice(1));

/** @param {string} key where the token is kept @param {string} [otherwise] what to try without one @returns {Client} */
export function connected(key, otherwise) {
  const client = /** @type {Client} */ (/** @type {any} */ (connect({ device: device(key), token: () => localStorage.getItem(key) ?? otherwise })));
  client.on("status", ({ error, phase }) => {
    // A token that was kept from another day may be nobody's any more: forget it, and try as nobody.
    if (error?.code !== "token_expired" && !(phase === "closed" && error?.code === "unauthenticated")) return;
    if (localStorage.getItem(key) === null) return;
    localStorage.removeItem(key);
    location.reload();
  });
  addEventListener("pagehide", (event) => event.persisted || client.close());
  $("token-form").addEventListener("submit", (event) => {
    event.preventDefault();
    localStorage.setItem(key, /** @type {HTMLInputElement} */ ($("token")).value.trim());
    location.reload();
  });
  return client;
}

/** @param {Client} client @param {FabricError | null} trouble of the session that is shown */
export function renderConnection(client, trouble) {
  const { phase, broker, error } = client.status;
  const state = phase === "live" && !broker ? "broker-lost" : phase;
  document.body.dataset["connection"] = state;
  const word = $("connection").querySelector(".word");
  if (word !== null && word.textContent !== WORDS[state]) word.textContent = WORDS[state];
  $("connection").title = [error?.message, `by ${client.status.transport}`].filter(Boolean).join(" · ");
  $("me").textContent = client.participant ?? "";
  const refused = error !== null && phase === "closed" ? error : trouble;
  $("refused").hidden = refused === null;
  if (refused === null) return;
  const token = ["unauthenticated", "token_expired", "forbidden"].includes(refused.code);
  $("refused-title").textContent = token ? "This page needs a token" : "This chat cannot go on";
  $("refused-text").textContent = token ? "Open the address that fabricctl dev printed, or enter the token here." : refused.message;
  $("token-form").hidden = !token;
  $("refused-new").hidden = token;
}

/** The list of chats is behind a button where there is little room. */
export function narrowSidebar() {
  for (const id of ["open-sidebar", "close-sidebar", "scrim"]) {
    $(id).addEventListener("click", () => {
      const open = document.body.classList.toggle("sidebar-open");
      $("open-sidebar").setAttribute("aria-expanded", String(open));
    });
  }
}

/** The same over reloads, another one in each tab. @param {string} key */
function device(key) {
  const place = key === USER ? "session-fabric.device" : `${key}.device`;
  const id = sessionStorage.getItem(place) ?? newId("tab-");
  sessionStorage.setItem(place, id);
  return id;
}
