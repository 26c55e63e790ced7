"""A compiled server that knows when each of its chunks left: the truth that clients are held to."""
