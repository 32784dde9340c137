"""The other end of `remote`: does at the broker what those ask who have no rights there, as far as it is theirs."""
