"""Floor 1: what pages share: accessible HTML, the style of figures, how numbers are worded."""
