// @ts-check
// What agents may read of this page, as tools of it.
import { $ } from "./connection.js";

/** What was marked last: it stays so when one goes on to write, which takes the mark away. */
let selected = "";

function mark() {
  const selection = document.getSelection();
  const text = selection?.toString().trim() ?? "";
  if (text !== "" && selection?.anchorNode != null && $("log").contains(selection.anchorNode)) selected = text;
}

document.addEventListener("selectionchange", mark);
// A change is told with the next frame, and by then a busy page may have the mark taken away.
document.addEventListener("pointerup", mark);
document.addEventListener("keyup", mark);

/** @type {Record<string, () => unknown>} */
export const pageTools = {
  read_selection: () => ({ text: selected }),
  read_page: () => ({
    title: document.title,
    viewport: { width: innerWidth, height: innerHeight, ratio: devicePixelRatio },
    colour_scheme: matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light",
    reduced_motion: matchMedia("(prefers-reduced-motion: reduce)").matches,
    language: navigator.language,
    time_zone: Intl.DateTimeFormat().resolvedOptions().timeZone,
  }),
};
