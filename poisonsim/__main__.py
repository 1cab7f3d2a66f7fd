"""`python -m poisonsim`."""

from poisonsim.cli import main

main()
