"""What can be different tonight: a change of all images or of a share, a class that stays away, foreign images."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.images.changes import FAINT, FULL

REHEARSED_STRENGTHS = (FULL, FAINT)  # every tested strength differs from both


@dataclass(frozen=True)
class Shift:
    """One way in which a batch differs from the reference.

    Attributes:
        name: For tables.
        rehearsed: Whether its kind was rehearsed, at another strength.
        change: Name of the images' change; "clean" for none.
        strength: Of the change.
        share: Of the batch that is changed, or replaced by foreign images.
        foreign: Whether the share is replaced by foreign images.
        classes_out: How many classes stay away.
    """

    name: str
    rehearsed: bool
    change: str = "clean"
    strength: float = 0.0
    share: float = 1.0
    foreign: bool = False
    classes_out: int = 0


def _changed(change: str, strength: float, *, rehearsed: bool = True, share: float = 1.0) -> Shift:
    part = "" if share == 1 else f", {share:.0%} of the batch"
    return Shift(f"{change} {strength:g}{part}", rehearsed, change, strength, share)


SHIFTS = (
    _changed("noise", 0.2),
    _changed("noise", 0.4),
    _changed("blur", 0.3),
    _changed("blur", 0.6),
    _changed("brightness", 0.2),
    _changed("brightness", 0.5),
    _changed("rotation", 0.4),
    _changed("rotation", 0.8),
    _changed("jpeg", 0.3),
    _changed("jpeg", 0.6),
    _changed("contrast", 0.4),
    _changed("colour-cast", 0.4),
    _changed("scale", 0.4),
    _changed("noise", 1.5, share=0.2),
    _changed("blur", 1.5, share=0.2),
    Shift("one class out", False, classes_out=1),
    Shift("two classes out", False, classes_out=2),
    Shift("a tenth foreign", False, share=0.1, foreign=True),
    _changed("brightness", -0.4, rehearsed=False),
    _changed("motion", 0.5, rehearsed=False),
    _changed("dirt", 0.6, rehearsed=False),
    _changed("greyscale", 0.5, rehearsed=False),
    _changed("vignette", 0.6, rehearsed=False),
    _changed("pixelate", 0.3, rehearsed=False),
    _changed("motion", 1.0, rehearsed=False, share=0.2),
)
NEAR_COPIES = 3  # further frames of an image, for bursts of near duplicates
