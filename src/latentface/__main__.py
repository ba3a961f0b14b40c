"""`python -m latentface`."""

from latentface.cli import main

main()
