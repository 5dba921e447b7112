"""``python -m medmcl`` is the command line."""

from medmcl.cli.main import main

main()
