"""What a watched check is about, in the words of headlines: on the pages and in messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the pages start without what a drift test needs
    from drift.policy import Watched

ABOUT: dict[Watched, str] = {
    "labels": "more of the model's answers are wrong, though the images look as ever or nearly so",
    "size": "the images differ, by too little for an alarm",
    "cost": "the images differ, and the model copes with them",
    "checks": "the images differ, and an alarm waits until further checks find it too",
    "cooldown": "the images differ, and an alarm waits for the cooldown to end",
}


def watched_about(watched: Watched | None) -> str:
    """The headline of a watched check; older ones do not say what they are about."""
    return ABOUT[watched] if watched is not None else "the reasons are in the report of the newest check"
