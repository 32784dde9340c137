/** What people and agents do in a session beyond its log: requests, tools of the page, documents, presence, the floor. */
export { Agents, agents } from "./agents.js";
export { arrange } from "../fold/branches.js";
export { type Asked, RequestFold } from "./asked.js";
export { type BranchOptions, Branches, branches } from "./branches.js";
export { Changing } from "./changing.js";
export { clientTools, ClientTools, type Tool, type ToolsOptions } from "./client-tools.js";
export { type Outcome, outcomeOf, whisper } from "./control.js";
export { type Control, ControlFold } from "./controls.js";
export { Floor, type FloorHolder, floor, type OfferOptions } from "./floor.js";
export { FloorFold, type FloorState, type Offer } from "./floors.js";
export { Presence, presence } from "./presence.js";
export { Present } from "./present.js";
export { type Claim, OpenRequests, type OpenRequest, requests, type To } from "./requests.js";
export { type PolicyFields, policy, type RunRecord, runs } from "./runs.js";
export { Documents, type DocumentEntry, type DocumentState, state } from "./state.js";
