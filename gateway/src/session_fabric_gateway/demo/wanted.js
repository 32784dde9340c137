// @ts-check
// The sessions that want a person, with what was said about it, and a way to say yes or no.
import { nameOf } from "./message.js";
import { tag } from "./markdown.js";

/** @typedef {import("./opened.js").Opened} Opened */
/** @typedef {import("./sessions.js").SessionList} SessionList */
/** @typedef {import("@session-fabric/client/life").Offer} Offer */

export class Wanted {
  /** @param {HTMLElement} element @param {(name: string, offer: string, accepted: boolean) => void} decide */
  constructor(element, decide) {
    this.element = element;
    this.decide = decide;
    this.shown = "";
  }

  /** @param {Opened[]} watched @param {SessionList} sessions @param {string} me @returns {number} how many there are */
  render(watched, sessions, me) {
    const now = Date.now();
    const offers = watched.flatMap(({ name, floor }) => floor.offers
      .filter(({ to, deadline }) => isFor(to, me) && (deadline === null || deadline > now))
      .map((offer) => ({ name, title: sessions.title(name), offer })));
    const key = JSON.stringify(offers);
    if (key !== this.shown) {
      this.shown = key;
      this.element.replaceChildren(...(offers.length === 0 ? [nobody()] : offers.map((one) => this.card(one))));
    }
    return offers.length;
  }

  /** @param {{name: string, title: string, offer: Offer}} wanted */
  card({ name, title, offer }) {
    const link = /** @type {HTMLAnchorElement} */ (tag("a", [title]));
    link.href = `#${encodeURIComponent(name)}`;
    const accept = tag("button", ["Accept"]);
    const decline = tag("button", ["Decline"]);
    accept.className = "primary";
    accept.addEventListener("click", () => this.decide(name, offer.request, true));
    decline.addEventListener("click", () => this.decide(name, offer.request, false));
    const said = tag("p", [tag("b", [nameOf(offer.by)]), offer.note ? `: “${offer.note}”` : " asks for a person"]);
    const buttons = tag("div", [accept, decline]);
    const element = tag("li", [link, said, buttons]);
    element.dataset["session"] = name;
    return element;
  }
}

/** @param {Offer["to"]} to @param {string} me */
const isFor = (to, me) => typeof to === "string" && (to === me || (to.startsWith("role:") && me.startsWith(`${to.slice(5)}:`)));

function nobody() {
  const element = tag("li", ["Nobody at the moment."]);
  element.className = "none";
  return element;
}
