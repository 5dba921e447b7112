"""``python -m medmcl`` is the command line."""

from medmcl.cli import main

main()
