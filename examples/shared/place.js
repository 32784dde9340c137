// Where a page's gateway is, who looks at it, which chat it shows, and over which wire: all of it from its address.

/** `#token=…&chat=…&wire=…`; what is not there is as it was in this tab, or made. The token is taken out of the address. */
export function place(wires) {
  const said = new URLSearchParams(location.hash.slice(1));
  const token = said.get("token") ?? sessionStorage.getItem("token") ?? "";
  const chat = said.get("chat") ?? `chat-${crypto.randomUUID()}`;
  const wire = wires.includes(said.get("wire")) ? said.get("wire") : wires[0];
  sessionStorage.setItem("token", token);
  history.replaceState(null, "", `#${new URLSearchParams({ chat, wire })}`);
  addEventListener("hashchange", () => location.reload());
  return { url: location.origin, token, chat, wire };
}

/** The headers of what asks over HTTP; `fabricctl dev --insecure` asks for none. */
export const headersOf = ({ token }) => (token ? { Authorization: `Bearer ${token}` } : {});

/** A one-time ticket: a browser's WebSocket sends no headers. */
export async function ticket(here) {
  const answer = await fetch(`${here.url}/v1/tickets`, { method: "POST", headers: headersOf(here) });
  if (!answer.ok) throw new Error(`no ticket: ${answer.status}`);
  return (await answer.json()).ticket;
}

/** What agents may call in this page. */
export const tools = {
  read_page: () => ({ title: document.title, viewport: { width: innerWidth, height: innerHeight }, language: navigator.language }),
  read_selection: () => ({ text: String(document.getSelection()) }),
};
