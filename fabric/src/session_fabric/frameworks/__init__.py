"""Agents of other frameworks as handlers: `fabric.agent()(langgraph(graph))`. A module for each; import that."""
