"""Side-by-side benchmarks: our gateway and nats-server's own WebSocket listener under one load, in one run."""
