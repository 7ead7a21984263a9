"""Floor 6: click commands, thin: parse, call, render."""
