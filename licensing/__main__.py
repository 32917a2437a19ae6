"""`python -m licensing` is the `licensing` command."""

from licensing.cli import main

if __name__ == "__main__":
    main()
