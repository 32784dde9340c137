"""Taking what a message says out of a session, which goes on."""
