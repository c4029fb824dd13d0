"""The one error of this room."""

from __future__ import annotations


class DriftError(ValueError):
    """A drift test cannot give a right answer from what it was given; the message says why and what to do."""
