// @ts-check
// Who is there, with role and status; who answers; who is typing.
import { $ } from "./connection.js";
import { avatar, nameOf } from "./message.js";
import { tag } from "./markdown.js";

/** @typedef {import("./opened.js").Opened} Opened */

/** @type {Record<string, string>} */
const STATUS = { thinking: "thinking", tool: "using a tool", waiting: "waiting", away: "no connection" };

export class PeopleView {
  constructor() {
    this.shown = "";
  }

  /** @param {Opened | null} opened @param {string} me */
  render(opened, me) {
    $("typing").textContent = typingText((opened?.presence.typing ?? []).map(nameOf));
    const person = opened?.person ?? null;
    const floor = person === null ? "" : person === me ? "You answer" : `${nameOf(person)} (${roleOf(person)}) answers`;
    if ($("floor").textContent !== floor) $("floor").textContent = floor;
    $("floor").hidden = floor === "";
    /** @type {Map<string, string>} */
    const here = new Map();
    for (const { participant, status } of opened?.presence.devices ?? []) here.set(participant, busier(here.get(participant), status ?? ""));
    // A run's agent is there, whether it says so or not.
    for (const run of opened?.chat.activeRuns ?? []) here.set(run.agent, here.get(run.agent) || "thinking");
    for (const { agent } of opened?.agents.away ?? []) here.set(agent, "away");
    const key = JSON.stringify([...here]) + me;
    if (key === this.shown) return;
    this.shown = key;
    $("members").replaceChildren(...[...here].map(([participant, status]) => pill(participant, status, me)));
  }
}

/** @param {string} participant @param {string} status @param {string} me */
function pill(participant, status, me) {
  const name = participant === me && nameOf(me) !== "you" ? `${nameOf(me)} (you)` : nameOf(participant);
  const role = roleOf(participant);
  const words = [role === "user" ? "" : role, STATUS[status] ?? ""].filter(Boolean).join(", ");
  const small = tag("small", words === "" ? [] : [words]);
  const element = tag("li", [avatar(participant), tag("span", [name, " ", small])]);
  element.dataset["participant"] = participant;
  element.dataset["status"] = STATUS[status] === undefined ? "here" : status;
  element.title = [participant, STATUS[status]].filter(Boolean).join(", ");
  return element;
}

/** @param {string | undefined} one @param {string} other of the same participant's devices */
const busier = (one, other) => (STATUS[other] !== undefined ? other : (one ?? other));

/** @param {string} participant */
export const roleOf = (participant) => participant.slice(0, Math.max(0, participant.indexOf(":")));

/** @param {string[]} names */
function typingText(names) {
  if (names.length === 0) return "";
  return names.length === 1 ? `${names[0]} is typing…` : `${names.slice(0, 3).join(", ")} are typing…`;
}
