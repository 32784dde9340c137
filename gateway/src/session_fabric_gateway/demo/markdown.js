// @ts-check
// A little Markdown, as text that cannot do harm: everything becomes text nodes; nothing is parsed as HTML.

/**
 * Show `text` in `element`. Blocks that have not changed since the last call keep their nodes, so that a text that
 * grows at its end costs what its last block costs.
 * @param {HTMLElement} element
 * @param {string} text
 */
export function renderMarkdown(element, text) {
  const wanted = blocks(text);
  const sources = /** @type {{sources?: string[]}} */ (element);
  const known = sources.sources ?? [];
  let same = 0;
  while (same < wanted.length && same < known.length && wanted[same]?.source === known[same]) same += 1;
  while (element.childNodes.length > same) element.lastChild?.remove();
  for (const block of wanted.slice(same)) element.append(block.make());
  sources.sources = wanted.map(({ source }) => source);
}

/** @typedef {{source: string, make: () => Node}} Block */

const LIST = /^(\s*)([-*+]|\d{1,9}[.)])\s+(.*)$/;
const FENCE = /^\s*(`{3,}|~{3,})\s*(\S*)/;

/**
 * @param {string} text
 * @returns {Block[]}
 */
function blocks(text) {
  const lines = text.split("\n");
  /** @type {Block[]} */
  const found = [];
  let i = 0;
  /** @param {number} end @param {() => Node} make */
  const take = (end, make) => {
    found.push({ source: lines.slice(i, end).join("\n"), make });
    i = end;
  };
  /** @param {(line: string) => boolean} while_ */
  const run = (while_) => {
    let end = i + 1;
    while (end < lines.length && while_(lines[end] ?? "")) end += 1;
    return end;
  };
  while (i < lines.length) {
    const line = lines[i] ?? "";
    const fence = FENCE.exec(line);
    if (line.trim() === "") {
      i += 1;
    } else if (fence !== null) {
      const mark = fence[1] ?? "```";
      let end = run((next) => !next.trim().startsWith(mark));
      const body = lines.slice(i + 1, end).join("\n");
      end = Math.min(end + 1, lines.length);
      take(end, () => tag("pre", [tag("code", [body])]));
    } else if (/^#{1,6}\s/.test(line)) {
      const [, marks = "#", title = ""] = /^(#+)\s+(.*?)\s*#*$/.exec(line) ?? [];
      take(i + 1, () => tag(marks.length < 3 ? "h3" : "h4", inline(title)));
    } else if (line.startsWith("|") && /^\|[\s:|-]+\|?\s*$/.test(lines[i + 1] ?? "")) {
      const end = run((next) => next.startsWith("|"));
      const rows = lines.slice(i, end);
      take(end, () => table(rows));
    } else if (LIST.test(line)) {
      const end = run((next) => LIST.test(next) || /^\s+\S/.test(next));
      const items = lines.slice(i, end);
      take(end, () => list(items));
    } else if (line.startsWith(">")) {
      const end = run((next) => next.startsWith(">"));
      const body = lines.slice(i, end).map((quoted) => quoted.replace(/^>\s?/, "")).join("\n");
      take(end, () => tag("blockquote", inline(body)));
    } else if (/^\s*([-*_])(\s*\1){2,}\s*$/.test(line)) {
      take(i + 1, () => tag("hr"));
    } else {
      const starts = (/** @type {string} */ next) =>
        next.trim() === "" || FENCE.test(next) || /^(#{1,6}\s|>|\|)/.test(next) || LIST.test(next);
      const end = run((next) => !starts(next));
      const body = lines.slice(i, end).join("\n");
      take(end, () => tag("p", inline(body)));
    }
  }
  return found;
}

/** @param {string[]} lines */
function list(lines) {
  const ordered = /^\s*\d/.test(lines[0] ?? "");
  const element = tag(ordered ? "ol" : "ul");
  const start = Number(/^\s*(\d+)/.exec(lines[0] ?? "")?.[1] ?? 1);
  if (ordered && start !== 1) element.setAttribute("start", String(start));
  /** @type {string[][]} */
  const items = [];
  const depth = /^\s*/.exec(lines[0] ?? "")?.[0].length ?? 0;
  for (const line of lines) {
    const item = LIST.exec(line);
    if (item !== null && (item[1] ?? "").length <= depth) items.push([item[3] ?? ""]);
    else items.at(-1)?.push(line);
  }
  for (const [first = "", ...rest] of items) {
    const nested = rest.findIndex((line) => LIST.test(line));
    const own = nested < 0 ? rest : rest.slice(0, nested);
    const content = inline([first, ...own.map((line) => line.trim())].join("\n"));
    element.append(tag("li", nested < 0 ? content : [...content, list(rest.slice(nested))]));
  }
  return element;
}

/** @param {string[]} rows */
function table(rows) {
  const cells = (/** @type {string} */ row) =>
    row.trim().replace(/^\||\|$/g, "").split(/(?<!\\)\|/).map((cell) => inline(cell.trim().replaceAll("\\|", "|")));
  const [head = "", , ...body] = rows;
  const element = tag("table", [
    tag("thead", [tag("tr", cells(head).map((cell) => tag("th", cell)))]),
    tag("tbody", body.map((row) => tag("tr", cells(row).map((cell) => tag("td", cell))))),
  ]);
  const wrap = tag("div", [element]);
  wrap.className = "table";
  return wrap;
}

const INLINE =
  /(?<code>(?<ticks>`+)(?<in>.+?)\k<ticks>(?!`))|\*\*(?<bold>.+?)\*\*|(?<![\w*])[*_](?<em>[^\s*_][^*_]*?)[*_](?![\w*])|\[(?<label>[^\]]*)\]\((?<href>[^)\s]+)\)|(?<url>https?:\/\/[^\s<>()]+[^\s<>().,;:!?'"])/su;

/**
 * @param {string} text
 * @returns {(Node | string)[]}
 */
function inline(text) {
  /** @type {(Node | string)[]} */
  const found = [];
  for (;;) {
    const match = INLINE.exec(text);
    if (match === null || match.groups === undefined) break;
    const { code, in: inner, bold, em, label, href, url } = match.groups;
    if (match.index > 0) found.push(text.slice(0, match.index));
    if (code !== undefined) found.push(tag("code", [/^ .* $/s.test(inner ?? "") ? (inner ?? "").slice(1, -1) : (inner ?? "")]));
    else if (bold !== undefined) found.push(tag("strong", inline(bold)));
    else if (em !== undefined) found.push(tag("em", inline(em)));
    else if (href !== undefined) found.push(link(href, label ? inline(label) : [href]));
    else if (url !== undefined) found.push(link(url, [url]));
    text = text.slice(match.index + match[0].length);
  }
  if (text !== "") found.push(text);
  return found;
}

/**
 * A link to somewhere safe; what points into the documentation is named, since this page does not serve it.
 * @param {string} href
 * @param {(Node | string)[]} label
 */
export function link(href, label) {
  if (!/^https?:\/\//i.test(href)) {
    const source = tag("cite", label);
    source.title = href;
    source.dataset["source"] = href;
    return source;
  }
  const element = /** @type {HTMLAnchorElement} */ (tag("a", label));
  element.href = href;
  element.target = "_blank";
  element.rel = "noopener noreferrer";
  return element;
}

/**
 * @param {string} name
 * @param {(Node | string)[]} [content]
 * @returns {HTMLElement}
 */
export function tag(name, content = []) {
  const element = document.createElement(name);
  element.append(...content);
  return element;
}
