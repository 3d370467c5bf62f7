"""The daemon's side of the HTTP process: starting, supervising and serving it."""
