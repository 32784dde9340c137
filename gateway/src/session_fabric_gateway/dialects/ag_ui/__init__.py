"""AG-UI 1.0 over the log, and what TanStack's dialect shares with it: their streams are AG-UI's events both.

`speaking` (a rule) makes a run's events of what `dialects.telling` tells, `places` says where a reader of them stands,
`restating` (a rule) what a conversation looks like as AG-UI's messages, `interrupts` (a rule) what runs ask of people,
`wishes` (a rule) what a `RunAgentInput` asks for. `turns` does that; `api` are the paths.
"""
