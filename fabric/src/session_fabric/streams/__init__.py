"""Durable streams: what the Durable Streams Protocol calls a stream, kept in the same log as sessions."""
