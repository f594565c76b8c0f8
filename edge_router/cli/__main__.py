"""`python -m edge_router.cli`."""

from edge_router.cli.main import main

main()
