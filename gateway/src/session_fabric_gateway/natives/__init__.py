"""Agents that come over NATS with no rights at the broker but to ask: whom they are let be, and what they may have."""
