"""The documentation site; a package so that `conf.py` finds `made` under any search path."""
