// The three ways of a chat to the gateway. The first two are TanStack AI's own, as npm has them; the third is ours.
import { connect } from "@session-fabric/client";
import { fabricConnection } from "@session-fabric/client/tanstack";
import { fetchServerSentEvents, webSocket } from "@tanstack/ai-client";
import { headersOf } from "../../shared/place.js";

const path = (here) => `${here.url}/v1/tanstack/${here.chat}`;
const http = (here) => fetchServerSentEvents(path(here), { headers: headersOf(here) });

export const connections = {
  http,
  // It sends no headers, so that a cookie says who it is; and it cannot load what there is, which HTTP can.
  websocket: (here) => {
    document.cookie = `token=${here.token}; SameSite=Strict`;
    return { ...webSocket(path(here).replace("http", "ws")), hydrate: http(here).hydrate };
  },
  fabric: (here) => fabricConnection(connect({ url: here.url, token: here.token || undefined }).session(here.chat)),
};

/** Ends the run, for everybody; `stop()` of useChat alone turns away from it. */
export const stopRun = (here, run) => fetch(`${path(here)}/runs/${run}/stop`, { method: "POST", headers: headersOf(here) });
