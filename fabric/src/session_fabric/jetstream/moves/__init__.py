"""Moving sessions between streams while they are in use."""
