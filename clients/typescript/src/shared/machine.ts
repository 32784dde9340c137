import type { WebSocketClass } from "../index.js";

/** What a browser must have for its tabs to share a connection. */
export interface Machine {
  readonly locks: LockManager;
  channel(name: string): BroadcastChannel;
  socket(url: string, protocols: string[]): WebSocket;
  digest(text: string): Promise<string>;
}

/** Return what this machine has; null where something is missing, or forbidden to a page like this one. */
export function machineOf(implementation?: WebSocketClass): Machine | null {
  const { navigator, BroadcastChannel: Channel, crypto } = globalThis as Partial<typeof globalThis>;
  const Socket = (implementation as typeof WebSocket | undefined) ?? globalThis.WebSocket;
  const locks = navigator?.locks as LockManager | undefined;
  if (!locks || !Channel || !Socket || !crypto?.subtle) return null;
  return {
    locks,
    channel: (name) => new Channel(name),
    socket: (url, protocols) => new Socket(url, protocols),
    async digest(text) {
      const bytes = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
      return Array.from(new Uint8Array(bytes, 0, 16), (byte) => byte.toString(16).padStart(2, "0")).join("");
    },
  };
}

/**
 * Who may share: tabs of one gateway's one participant. Of a token that does not say whose it is, those that have the same.
 *
 * It only brings tabs together; that they belong together is seen to by the gateway.
 */
export function scopeOf(url: string, token: string): string {
  return JSON.stringify([url, whose(token) ?? token]);
}

function whose(token: string): unknown {
  try {
    const payload = token.split(".")[1]!.replace(/-/g, "+").replace(/_/g, "/");
    const bytes = Uint8Array.from(atob(payload), (letter) => letter.charCodeAt(0));
    const { iss, tenant, sub } = JSON.parse(new TextDecoder().decode(bytes)) as Record<string, unknown>;
    return sub ? [iss, tenant, sub] : null;
  } catch {
    return null;
  }
}
