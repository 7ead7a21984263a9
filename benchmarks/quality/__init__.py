"""How good the built-in recipes are, with paired errors: `nox -s bench-quality` writes results/reference/quality.md."""
