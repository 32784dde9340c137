"""The Durable Streams Protocol 1.0, served from the same log as sessions (docs/durable-streams.md)."""
