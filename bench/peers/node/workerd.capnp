# Cloudflare's runtime: one Durable Object for each session, with SQLite on the local disk. The directory and the
# address are given on the command line.
using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [
    (name = "main", worker = .worker),
    (name = "kept", disk = (writable = true)),
  ],
  sockets = [(name = "http", http = (), service = "main")],
);

const worker :Workerd.Worker = (
  modules = [(name = "session.js", esModule = embed "session.js")],
  compatibilityDate = "2026-01-01",
  durableObjectNamespaces = [(className = "Session", uniqueKey = "session-fabric-bench", enableSql = true)],
  durableObjectStorage = (localDisk = "kept"),
  bindings = [(name = "sessions", durableObjectNamespace = "Session")],
);
