"""Layer 8: thin click commands: parse, call the Python function, render."""
