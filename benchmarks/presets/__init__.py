"""What each value of the presets `best` is worth: `nox -s bench-presets` writes results/reference/presets.md."""
