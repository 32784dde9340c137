"""The AI SDK's wires, for its own clients: `ai` 7 and 6."""
