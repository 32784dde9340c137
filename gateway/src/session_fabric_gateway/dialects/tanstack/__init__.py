"""TanStack AI over the log: its chunks are AG-UI's events, so that all but its transports is `dialects.ag_ui`'s.

`api` are its paths over HTTP, `socket` its WebSocket, `hydrating` (a rule) what a loaded page shows first.
"""
