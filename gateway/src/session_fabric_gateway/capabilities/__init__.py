"""What participants can do in a session beyond reading and appending; a module each."""
