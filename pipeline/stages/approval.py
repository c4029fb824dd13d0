"""Approval by a person, where the stream asks for it: the gate has said yes, and nothing moves until somebody does."""

from __future__ import annotations

import logging
from typing import Any

from pipeline.errors import ConfigurationError
from pipeline.model.card import plain
from pipeline.records import ModelVersion, Retraining
from pipeline.stages.concluding import conclude, result
from pipeline.stages.freezing import freeze_reference
from pipeline.stages.promotion import put_in_charge
from pipeline.stages.workplace import Workplace

log = logging.getLogger(__name__)

AWAITING = "awaiting approval"
OUTDATED = "outdated"  # gate of a version that was approved too late, or never asked about again
JUDGED_AGAINST = "judged_against"  # tag of a version: the champion that it was compared with


def await_approval(
    place: Workplace, challenger: ModelVersion, champion: ModelVersion | None, retraining: int
) -> dict[str, Any]:
    """Note that a challenger has passed the gate and waits for a person."""
    name = place.stream.name
    against = str(champion.version) if champion else "none"
    place.registry.tag_version(name, challenger.version, {JUDGED_AGAINST: against})
    place.catalog.await_approval(retraining)
    # Last: with this tag the same retraining is not done twice, and what waits must then be on record.
    place.registry.tag_version(name, challenger.version, {"gate": AWAITING})
    place.registry.end_run(challenger.run_id)
    log.info("version %d awaits approval: `tidemark approve %s`, or --decline", challenger.version, name)
    return still_awaiting(place, challenger) or result(place, AWAITING, challenger.version, challenger.run_id)


def still_awaiting(place: Workplace, version: ModelVersion | None) -> dict[str, Any] | None:
    """The result of a retraining whose challenger waits for a person, with the evidence; None where none does."""
    row = _awaiting(place, version.version) if version else None
    if row is None or version is None:
        return None
    return result(place, AWAITING, version.version, version.run_id, check=row.check_id, evidence=_evidence(place, row))


def approve(
    place: Workplace, number: int | None = None, *, decline: bool = False, by: str | None = None
) -> dict[str, Any]:
    """Put the challenger that awaits approval in charge, or turn it down. Repeated, it changes nothing.

    It takes over only if the champion is still the one that it was judged against; else what was approved no longer
    stands, and it is turned down.

    Args:
        place: The stream.
        number: The version that is meant; None for the one that waits.
        decline: Whether it is turned down.
        by: Who decided, for the record.

    Raises:
        Busy: A retraining of the stream is running.
        ConfigurationError: No such version awaits approval.
        ModelUnreadable, ArtefactDamaged, TrainingImpossible: It cannot take over; it goes on waiting.
    """
    name = place.stream.name
    with place.catalog.lock("retrain", name):
        row = _awaiting(place, number)
        if row is None or row.model_version is None:
            return _decided(place, number)
        champion = place.registry.champion(name)
        challenger = place.registry.version(name, row.model_version)
        who = by or "the command line"
        if champion is not None and champion.version == challenger.version:  # killed after the alias had moved
            place.catalog.settle_promotions(name, champion.version)
            return conclude(place, challenger, row.id, promote=True)
        changed = _changed(challenger, champion)
        if decline or changed:
            said = f"declined by {who}" if decline else str(changed)
            log.info("version %d stays out: %s", challenger.version, said)
            place.catalog.trace_retraining(row.id, gate={**(row.gate or {}), "approval": said})
            return conclude(place, challenger, row.id, promote=False, gate="declined" if decline else OUTDATED)
        place.catalog.trace_retraining(row.id, gate={**(row.gate or {}), "approval": f"approved by {who}"})
        freeze_reference(place, challenger)
        put_in_charge(place, challenger, kind="promotion", reason=f"{row.reason}, approved by {who}", retraining=row.id)
        return conclude(place, challenger, row.id, promote=True)


def supersede(place: Workplace) -> None:
    """Turn down what waits for approval: a newer challenger has passed the gate. With the stream's lock held."""
    row = _awaiting(place, None)
    if row is not None and row.model_version is not None:
        log.info("version %d waits for approval no longer: a newer one has passed the gate", row.model_version)
        place.catalog.trace_retraining(
            row.id, gate={**(row.gate or {}), "approval": "a newer challenger has passed the gate"}
        )
        challenger = place.registry.version(place.stream.name, row.model_version)
        conclude(place, challenger, row.id, promote=False, gate=OUTDATED)


def _awaiting(place: Workplace, number: int | None) -> Retraining | None:
    rows = place.catalog.retrainings(place.stream.name, status=AWAITING, version=number)
    return rows[-1] if rows else None


def _changed(challenger: ModelVersion, champion: ModelVersion | None) -> str | None:
    """Why what was judged is not what there is now; a version itself never changes."""
    against = challenger.tags.get(JUDGED_AGAINST)
    now = str(champion.version) if champion else "none"
    return None if against == now else f"it was judged against champion {against}, and the champion is {now} by now"


def _decided(place: Workplace, number: int | None) -> dict[str, Any]:
    """The result of an approval that was carried out before."""
    name = place.stream.name
    rows = place.catalog.retrainings(name, version=number) if number is not None else []
    for row in reversed(rows):
        if row.status in {"promoted", "rejected"} and row.mlflow_run_id:
            log.info("version %d was %s already", row.model_version, row.status)
            return result(place, row.status, number or 0, row.mlflow_run_id)
    what = (
        f"version {number} of stream {name} does not await"
        if number is not None
        else f"nothing of stream {name} awaits"
    )
    raise ConfigurationError(f"{what} approval: `tidemark models {name}` shows what does")


def _evidence(place: Workplace, row: Retraining) -> str:
    """What a person should know who decides, in markdown."""
    name, gate = place.stream.name, row.gate or {}
    lines = [
        f"Version {row.model_version} of **{plain(name)}** has passed the gate. Trained for: {plain(row.reason)}.",
        "",
        *(f"- {plain(reason)}" for reason in gate.get("reasons", [])),
        "",
        "| | this version | champion |",
        "| --- | ---: | ---: |",
    ]
    evaluation = row.evaluation or {}
    for part, title in (("new", "new holdout"), ("old", "older holdout")):
        for figure in ("count", "accuracy", "balanced_accuracy", "macro_f1", "calibration_error"):
            values = [((evaluation.get(who) or {}).get(part) or {}).get(figure) for who in ("challenger", "champion")]
            if any(value is not None for value in values):
                shown = ["–" if value is None else f"{value:.4f}".removesuffix(".0000") for value in values]
                lines.append(f"| {title}: {figure.replace('_', ' ')} | {shown[0]} | {shown[1]} |")
    lines += [
        "",
        f"The model card, pictures and tables are with run `{row.mlflow_run_id}` in MLflow, folder `evaluation`.",
        f"By hand: `tidemark approve {name}`, or with `--decline`.",
    ]
    return "\n".join(lines)
