"""`python -m higgsbench` is the `higgsbench` command."""

from higgsbench.cli.main import main

if __name__ == "__main__":
    main()
