"""``python -m advkit``: the command line."""

from advkit.cli import main

main()
