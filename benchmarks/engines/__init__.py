"""Parts of ``real_engines.py``: engines to start, what goes over the loopback, and terms."""
