"""``python -m pipeline``: the same as the command ``tidemark``."""

from pipeline.cli import main

main()
