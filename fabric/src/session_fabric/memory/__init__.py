"""A broker in memory that keeps every promise of `session_fabric.ports`: for unit tests, ours and users'."""

from session_fabric.memory.broker import MemoryBroker

__all__ = ["MemoryBroker"]
