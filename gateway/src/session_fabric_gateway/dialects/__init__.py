"""The wires of front-end frameworks, spoken over the same log: one file a dialect, upon what all of them share.

How a chat goes through this room:

1. A framework's client says something of a user. Its dialect reads that, and `inputs` appends it in the user's own
   name as `message.user` or `message.regenerate`, under an event id that follows from the framework's own id: what is
   sent again is a duplicate, and its run (`run_of_input`) is known before it begins. `inputs` also answers requests,
   stops runs, and finds the run that a page that was loaded again should go on with.
2. `following` yields what the log has behind an offset, then what happens, from the one feed that the gateway has of
   the session; after a rewind some of it again.
3. `telling` (a rule) makes of one run's events what every dialect needs: messages that open, grow and close, each
   piece of text once whatever covers it, milestones once, and how it ended. Text stays the JSON that is stored.
4. The dialect (a rule: a `pouring.Teller`) spells that as its framework's chunks, as bytes.
5. `pouring` sends them as server-sent events, `sockets` over a WebSocket: looked after, bounded, cut when somebody
   may read no more. A connection that is cut before the end is an error to the framework, never an end.
"""
