"""After the fact: bytes become chunks, tokens, and success or failure."""
