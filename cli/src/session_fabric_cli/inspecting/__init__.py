"""What happened in a session: rules that turn what is found of it into pages, and how these look."""
