"""What the pages say of a stream's model versions, from the catalogue alone; and how the champion is changed there."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from pipeline.settings import Settings
from pipeline.stages.overview import charges
from pipeline.stages.paging import Page, read_page
from pipeline.storage.catalog import connect

PAGE = 15  # versions on one page
MOST_CLASSES = 40  # a larger matrix cannot be read; its largest cells can
MOST_CONFUSIONS = 12
MOST_SLICES = 12
SETS = ("new", "old")
FIGURES = (
    "count",
    "accuracy",
    "balanced_accuracy",
    "macro_precision",
    "macro_f1",
    "roc_auc",
    "calibration_error",
    "unknown",
)
COSTS = ("latency_ms", "batch_ms", "megabytes")


@dataclass(frozen=True, kw_only=True)
class Versions:
    """One page of a stream's versions.

    Attributes:
        champion: The version in charge, as the catalogue last heard it.
        versions: The page, newest first: version, reason, check_id, status, reasons, new, old, footprint, …
        charges: When each version was in charge: since, until.
        pruned: Versions whose files retention has taken away → when.
    """

    champion: int | None
    versions: Page
    charges: dict[int, list[dict[str, str | None]]]
    pruned: dict[int, datetime]


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """How one version's answers fall on the classes of one holdout.

    Attributes:
        classes: Their names.
        counts: (classes, classes) images, rows true, columns answered; empty where there are too many classes to draw.
        worst: True class, answer and images of the largest cells off the diagonal, the largest first.
    """

    classes: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    worst: tuple[tuple[str, str, int], ...]


@dataclass(frozen=True, kw_only=True)
class VersionStory:
    """One version beside the champion it was measured against.

    Attributes:
        row: What the catalogue has of it.
        champion: The version in charge now.
        spans: When this version was in charge: since, until.
        figures: Name, then this version's value and that of the champion of the time, on the new and the older holdout.
        costs: Name, this version's value and the champion's.
        judged_on: ``new`` or ``old``: the holdout that `classes` are of; None without any.
        classes: Figures class by class, the worst first.
        more_classes: How many there are besides.
        confusions: By set.
        slices: Parts of the holdout that lost most.
        pruned: When retention took its files away; None while they are there.
    """

    row: dict[str, Any]
    champion: int | None
    spans: list[dict[str, str | None]]
    figures: list[tuple[str, list[float | None]]]
    costs: list[tuple[str, list[float | None]]]
    judged_on: str | None
    classes: list[dict[str, Any]]
    more_classes: int
    confusions: dict[str, Confusion]
    slices: list[dict[str, Any]]
    pruned: datetime | None


def model_versions(settings: Settings, stream: str, page: int = 1) -> Versions:
    """One page of a stream's versions; the last page where there are not so many.

    Raises:
        ServiceError: The database does not serve.
    """
    with connect(settings) as catalog:
        return Versions(
            champion=catalog.noted_champion(stream),
            versions=read_page(partial(catalog.versions, stream), page, PAGE),
            charges=charges(catalog.promotions(stream)),
            pruned={int(number): when for number, when in catalog.pruned(stream, "model").items()},
        )


def version_story(settings: Settings, stream: str, version: int) -> VersionStory | None:
    """Everything that is shown of one version; None where the stream has none of this number.

    Raises:
        ServiceError: The database does not serve.
    """
    with connect(settings) as catalog:
        row = catalog.version(stream, version)
        if row is None:
            return None
        champion, spans = catalog.noted_champion(stream), charges(catalog.promotions(stream)).get(version, [])
        pruned = catalog.pruned(stream, "model", str(version)).get(str(version))
    evaluation = row["evaluation"] or {}
    ours, theirs = evaluation.get("challenger") or {}, evaluation.get("champion") or {}
    shown = {part: ours[part] for part in SETS if ours.get(part)}
    judged_on = next(iter(shown), None)
    classes = sorted((shown[judged_on].get("classes") or []) if judged_on else [], key=_worth)
    return VersionStory(
        row=row,
        champion=champion,
        spans=spans,
        figures=_side_by_side(FIGURES, [who.get(part) for part in SETS for who in (ours, theirs)]),
        costs=_side_by_side(COSTS, [who.get("footprint") for who in (ours, theirs)]),
        judged_on=judged_on,
        classes=classes[:MOST_CLASSES],
        more_classes=max(0, len(classes) - MOST_CLASSES),
        confusions={part: found for part, item in shown.items() if (found := _confusion(item)) is not None},
        slices=((row["gate"] or {}).get("slices") or [])[:MOST_SLICES],
        pruned=pruned,
    )


def _side_by_side(
    names: tuple[str, ...], evaluations: list[dict[str, Any] | None]
) -> list[tuple[str, list[float | None]]]:
    """One row a figure, one value an evaluation; figures that nobody has are left out."""
    rows = [(name, [(item or {}).get(name) for item in evaluations]) for name in names]
    return [row for row in rows if any(value is not None for value in row[1])]


def _worth(item: dict[str, Any]) -> tuple[bool, float]:
    """Order of the classes: by F1; those without images, of which it says nothing, last."""
    return not item["support"], item["f1"]


def _confusion(evaluation: dict[str, Any]) -> Confusion | None:
    counts = evaluation.get("confusion") or []
    names = tuple(str(item["name"]) for item in evaluation.get("classes") or [])
    if not counts or len(names) != len(counts):
        return None
    cells = [
        (names[row], names[column], count)
        for row, line in enumerate(counts)
        for column, count in enumerate(line)
        if row != column and count
    ]
    return Confusion(
        classes=names,
        counts=tuple(tuple(line) for line in counts) if len(names) <= MOST_CLASSES else (),
        worst=tuple(sorted(cells, key=lambda cell: -cell[2])[:MOST_CONFUSIONS]),
    )
