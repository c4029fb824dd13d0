"""What came of each night, read from the catalogue, and whether the story happened."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from pipeline.errors import StoryFailed
from pipeline.records import Check, Completeness
from pipeline.stages.workplace import Workplace

# The story's promises: see README, "The demo".
LEAST_ACCURACY = 0.85
LEAST_GAIN = 0.20
LARGEST_LOSS = 0.03
ROUNDING = 1e-9  # 0.85 − 0.65 < 0.2 in floating point


@dataclass(frozen=True, kw_only=True, slots=True)
class Accuracy:
    """Share of labelled images whose prediction is right: of all of a night, and of its holdout, unseen in training."""

    all: float
    holdout: float
    all_images: int
    holdout_images: int

    @classmethod
    def of(cls, rows: Iterable[dict[str, Any]]) -> Self | None:
        """From rows of truth, split and label; None where nothing is labelled or something has no prediction."""
        labelled = [row for row in rows if row["truth"] is not None]
        holdout = [row for row in labelled if row["split"] == "holdout"]
        if not holdout or any(row["label"] is None for row in labelled):
            return None
        return cls(
            all=sum(row["truth"] == row["label"] for row in labelled) / len(labelled),
            holdout=sum(row["truth"] == row["label"] for row in holdout) / len(holdout),
            all_images=len(labelled),
            holdout_images=len(holdout),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Night:
    """One night, as the catalogue tells it."""

    night: int
    batches: tuple[int, ...]
    images: int
    p_value: float | None
    decision: str
    champion_before: int | None
    champion: int | None
    before: Accuracy | None  # of that night's images by the champion of the evening
    after: Accuracy | None  # by the champion of the morning
    predictions: int  # new rows of that night
    images_in_store: int
    predictions_by_champion: int
    failures: int
    retrainings: int  # of that night
    check: str
    report: str | None
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Evening:
    """How things stand before a night."""

    last_batch: int
    champion: int | None
    retrainings: int
    predictions: int

    @classmethod
    def of(cls, place: Workplace) -> Self:
        """Look at the catalogue and the registry."""
        name = place.stream.name
        champion = place.registry.champion(name)
        return cls(
            last_batch=max((batch.id for batch in place.catalog.batches(name)), default=0),
            champion=champion.version if champion else None,
            retrainings=len(place.catalog.retrainings(name)),
            predictions=sum(_predictions(place).values()),
        )


def measure(place: Workplace, night: int, evening: Evening, seconds: float) -> Night:
    """Look at what a night brought.

    Raises:
        StoryFailed: It brought no batch or no check.
    """
    name = place.stream.name
    batches = [batch for batch in place.catalog.batches(name) if batch.id > evening.last_batch]
    if not batches:
        raise StoryFailed(f"night {night} brought no images: look at the run of {name}_ingest in Airflow")
    check = last_check(place, tuple(batch.id for batch in batches), night)
    champion = place.registry.champion(name)
    version = champion.version if champion else None
    found = (
        place.catalog.completeness(name, version)
        if version
        else Completeness(images=0, predictions=0, failures=0, missing=0)
    )
    images, predicted, failures = found.images, found.predictions, found.failures
    url = place.settings.airflow_url
    return Night(
        night=night,
        batches=tuple(batch.id for batch in batches),
        images=sum(batch.accepted for batch in batches),
        p_value=check.p_value,
        decision=check.decision,
        champion_before=evening.champion,
        champion=version,
        before=Accuracy.of(answers(place, evening.champion, check.batch_ids)) if evening.champion else None,
        after=Accuracy.of(answers(place, version, check.batch_ids)) if version else None,
        predictions=sum(_predictions(place).values()) - evening.predictions,
        images_in_store=images,
        predictions_by_champion=predicted,
        failures=failures,
        retrainings=len(place.catalog.retrainings(name)) - evening.retrainings,
        check=check.id,
        report=f"{url.rstrip('/')}/tidemark/checks/{name}/{check.id}" if url else None,
        seconds=round(seconds, 1),
    )


def last_check(place: Workplace, batches: tuple[int, ...], night: int) -> Check:
    """The check that decided on a night's batches.

    Raises:
        StoryFailed: There is none.
    """
    checks = place.catalog.checks_of_batches(place.stream.name, batches)
    if not checks:
        raise StoryFailed(f"no check decided on night {night}: look at the run of {place.stream.name}_detect_drift")
    return checks[-1]


def answers(place: Workplace, version: int, batches: Sequence[int]) -> list[dict[str, Any]]:
    """Truth, split and prediction of the images of some batches under one model version.

    A champion that an alarm replaced has left no predictions of that night's images, but its check has kept the
    probabilities it saw.
    """
    name = place.stream.name
    rows = [row for batch in batches for row in place.catalog.predictions_of_batch(name, version, batch)]
    if all(row["label"] is not None for row in rows):
        return rows
    from pipeline.model.inference import Classifier
    from pipeline.stages.embeddings import kept_embeddings

    kept = kept_embeddings(place, version, tuple(batches))
    if kept is None:
        return rows
    classes = Classifier(place.registry.model_file(place.registry.version(name, version))).classes
    columns = kept.probabilities.argmax(axis=1)
    seen = {int(image): classes[int(column)] for image, column in zip(kept.image_ids, columns, strict=True)}
    return [{**row, "label": row["label"] or seen.get(row["id"])} for row in rows]


def older_holdout(place: Workplace, nights: Sequence[Night]) -> tuple[float, float] | None:
    """Accuracy on the holdout of all nights but the last: by the last night's old champion, and by its new one."""
    last = nights[-1]
    batches = [batch for night in nights[:-1] for batch in night.batches]
    if last.champion_before is None or last.champion is None:
        return None
    old = Accuracy.of(answers(place, last.champion_before, batches))
    new = Accuracy.of(answers(place, last.champion, batches))
    return (old.holdout, new.holdout) if old and new else None


def conditions(nights: Sequence[Night], older: tuple[float, float] | None) -> list[tuple[str, bool]]:
    """What the story promises → whether it happened."""
    first, second, third = nights
    before = third.before.holdout if third.before else None
    after = third.after.holdout if third.after else None
    gain = after - before if after is not None and before is not None else None
    loss = older[0] - older[1] if older else None
    reached = f"the new champion's accuracy on the night's holdout is {_percent(after)}, at least {LEAST_ACCURACY:.0%}"
    gained = f"that is {_points(gain)} above the old one's {_percent(before)}, at least {100 * LEAST_GAIN:.0f}"
    kept = f"on the older holdout it loses {_points(loss)}, at most {100 * LARGEST_LOSS:.0f}"
    born = first.champion_before is None and first.champion is not None
    untouched = second.retrainings == 0 and second.champion == first.champion
    replaced = third.champion is not None and third.champion != third.champion_before
    promises = [
        (f"night 1: a first model was trained and took over (champion: {_shown(first.champion)})", born),
        (f"night 2: the check found no drift (decision: {second.decision})", second.decision == "clean"),
        (f"night 2: nothing was trained ({second.retrainings} trainings)", untouched),
        (
            f"night 2: only the new images were scored ({second.predictions} predictions for {second.images} images)",
            second.predictions == second.images,
        ),
        (f"night 3: the check raised an alarm (decision: {third.decision})", third.decision == "alarm"),
        (f"night 3: a new model took over ({_shown(third.champion_before)} → {_shown(third.champion)})", replaced),
        (f"night 3: {reached}", after is not None and after >= LEAST_ACCURACY),
        (f"night 3: {gained}", gain is not None and gain >= LEAST_GAIN - ROUNDING),
        (f"night 3: {kept}", loss is not None and loss <= LARGEST_LOSS + ROUNDING),
    ]
    for night in nights:
        count = f"{night.predictions_by_champion} of {night.images_in_store}"
        complete = night.predictions_by_champion == night.images_in_store > 0 and night.failures == 0
        promises.append((f"night {night.night}: every image has its prediction by the champion ({count})", complete))
    return promises


def _predictions(place: Workplace) -> dict[int, int]:
    """Model version → its predictions."""
    name = place.stream.name
    return {
        version.version: place.catalog.completeness(name, version.version).predictions
        for version in place.registry.versions(name)
    }


def _shown(version: int | None) -> str:
    return "none" if version is None else f"version {version}"


def _percent(share: float | None) -> str:
    return "unknown" if share is None else f"{share:.1%}"


def _points(difference: float | None) -> str:
    return "an unknown number of points" if difference is None else f"{100 * difference:.1f} points"
