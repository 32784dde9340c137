"""The demo agent: it answers questions about the project's own documentation."""
