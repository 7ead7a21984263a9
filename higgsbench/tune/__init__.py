"""Floor 5: searches parameters of one model by nested studies; trains through `runs`."""
