// A page as a front-end developer would write it, without anything to see: `tab` is what the tests look at.
import { connect } from "./client/index.js";
import { clientTools, outcomeOf, presence } from "./client/life.js";
import { shared } from "./client/shared.js";

const given = new URLSearchParams(location.hash.slice(1));
const device = given.get("device");
const tab = (window.tab = { tokens: [given.get("token")], asked: 0, called: 0, phases: [] });

function token() {
  tab.asked += 1;
  return tab.tokens.length > 1 ? tab.tokens.shift() : tab.tokens[0];
}

tab.client = connect(shared({ url: location.origin, token, device }));
tab.client.on("status", ({ phase }) => tab.phases.push(phase));
tab.session = tab.client.session(given.get("session"));
tab.chat = tab.session.conversation({ presence: { device } });
tab.presence = presence(tab.session);
tab.tools = clientTools(tab.session, { read_page: async () => ((tab.called += 1), { title: device }) });
tab.outcomeOf = (requested) => outcomeOf(tab.session, requested);
