"""The measured path: connections, the window, and what is put off until after it."""
