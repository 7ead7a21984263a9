"""Floor 8: click commands, thin: parse, call the Python function, render."""
