"""Data and names: the lowest floor. Nothing here does I/O."""
