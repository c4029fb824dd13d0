"""Deciding on a batch: show it to the champion, test it, weigh what is found by the stream's policy."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

import drift
from drift.report import Estimate
from pipeline.errors import CheckFailed
from pipeline.records import Image, ModelVersion
from pipeline.stages.answers import open_classifier
from pipeline.stages.embeddings import Embedded, embed_batches
from pipeline.stages.evidence import Samples, accuracies, earlier_signals, resting
from pipeline.stages.near import different_pictures, near_groups, sampled
from pipeline.stages.next_steps import next_steps
from pipeline.stages.promotion import load_reference
from pipeline.stages.reporting import Tested
from pipeline.stages.workplace import Workplace
from pipeline.stream import Stream

log = logging.getLogger(__name__)

NO_EFFECT = 0.5  # AUC of guessing


@dataclass(frozen=True, kw_only=True, eq=False)
class Verdict:
    """What was found out about a batch.

    Attributes:
        decision: What is decided, and why.
        measured: What the catalogue keeps of it, as JSON values.
        tested: What was looked at, for the report; None where nothing was tested.
        next_steps: What happens next; empty where it is what such a decision means anyway.
    """

    decision: drift.Decision
    measured: dict[str, Any] = field(default_factory=dict)
    tested: Tested | None = None
    next_steps: tuple[str, ...] = ()


def decide_on(place: Workplace, champion: ModelVersion, batches: tuple[int, ...], images: Sequence[Image]) -> Verdict:
    """Decide on the images of some batches.

    Raises:
        CheckFailed: The embeddings cannot be tested.
        ArtefactDamaged: Champion or reference cannot be read.
        ServiceError: Store or database do not serve.
    """
    stream = place.stream
    learnt = learnt_by(champion, images)
    held_up = _too_few(stream, champion, images, learnt)  # before images are embedded each night that wait for others
    if held_up is not None:
        return held_up
    classifier = open_classifier(place, champion)
    reference = load_reference(place, champion.version)
    current = embed_batches(place, classifier, champion.version, batches, images)
    known = {image.id: image for image in images}
    fresh = _rows(current, np.flatnonzero(~np.isin(current.image_ids, sorted(learnt))))
    held_up = _unreadable(stream, images, current, fresh)
    if held_up is not None:
        return held_up
    tested = sampled(near_groups(fresh.image_ids, known), stream.drift.max_images, stream.drift.seed)
    samples = Samples(
        reference=reference,
        reference_images={image.id: image for image in place.catalog.images(stream.name, reference.image_ids.tolist())},
        current=_rows(fresh, tested),
        images=known,
        classes=classifier.classes,
        policy=stream.drift,
    )
    policy = decision_policy(stream)
    log.info("testing %d images against %d of the reference", len(samples.current), len(reference))
    try:
        result = samples.test(policy.level_for(*(len(np.unique(groups)) for groups in samples.groups)))
        by_class = samples.test_classes() if result.is_drift else ()
        effect = samples.effect()
    except drift.DriftError as error:
        raise CheckFailed(f"batch {batches[-1]} of stream {stream.name} cannot be tested: {error}") from None
    expected, measured = accuracies(samples, fresh)
    evidence = drift.Evidence(
        effect=effect,
        expected=expected,
        measured=measured,
        earlier_signals=earlier_signals(place, champion, batches, policy.consecutive),
        resting=resting(place, batches, policy.cooldown),
    )
    decision = drift.decide(result, len(fresh), policy, evidence)
    if left_out := len(current) - len(fresh):
        said = f"Left out: {left_out:,} images that version {champion.version} was trained on."
        decision = replace(decision, reasons=(*decision.reasons, said))
    known_accuracy = measured or expected
    return Verdict(
        decision=decision,
        measured=_to_keep(result, by_class, evidence, decision, stream),
        tested=Tested(
            result,
            reference,
            samples.current,
            classifier.classes,
            by_class=by_class,
            effect=Estimate(value=effect.auc, low=effect.low, high=effect.high),
            min_effect=policy.min_effect if policy.min_effect > NO_EFFECT else None,
            baseline=None if known_accuracy is None else Estimate(value=known_accuracy.baseline),
            expected=_estimate(expected),
            measured=_estimate(measured),
            min_accuracy_drop=policy.min_accuracy_drop or None,
        ),
        next_steps=next_steps(place, champion, decision, evidence, policy),
    )


def decision_policy(stream: Stream) -> drift.Policy:
    """The stream's drift policy in the words of the drift room."""
    policy = stream.drift
    return drift.Policy(
        alpha=policy.alpha,
        false_alarms_per_year=policy.false_alarms_per_year,
        checks_per_year=stream.checks_per_year,
        min_images=policy.min_images,
        permutations=policy.permutations,
        consecutive=policy.consecutive,
        cooldown=policy.cooldown,
        min_effect=policy.min_effect,
        min_accuracy_drop=policy.min_accuracy_drop,
    )


def learnt_by(champion: ModelVersion, images: Sequence[Image]) -> set[int]:
    """Images by id that the champion was trained on: a network maps them to other places than fresh ones."""
    last = int(champion.tags.get("last_batch", 0))
    return {image.id for image in images if image.split == "training" and image.label and image.batch_id <= last}


def _rows(embedded: Embedded, rows: NDArray[np.int64]) -> Embedded:
    return Embedded(
        embedded.image_ids[rows], embedded.probabilities[rows], embedded.embeddings[rows], embedded.failures
    )


def _too_few(stream: Stream, champion: ModelVersion, images: Sequence[Image], learnt: set[int]) -> Verdict | None:
    """Why these images cannot be tested even if all can be read, if they cannot."""
    others = [image for image in images if image.id not in learnt]
    least, different = stream.drift.min_images, different_pictures(others)
    if different >= least:
        return None
    version = f"Version {champion.version}"
    if not others:
        reason = f"{version} was trained on these images: they cannot tell whether others differ."
        return Verdict(decision=drift.Decision(kind="clean", reasons=(reason,)))
    said = []
    if learnt:
        share = f"{len(learnt):,} of these {len(images):,} images"
        said.append(f"{version} was trained on {share}, which cannot tell whether others differ.")
    counted = ""
    if different < len(others):
        counted = f"Near duplicates count once, and {len(others):,} images count as {different:,}: "
    elif learnt:
        counted = f"There {'is' if different == 1 else 'are'} {different:,} besides: "
    said.append(f"{counted}{'a' if counted else 'A'} check needs {least} and waits for {least - different:,} more.")
    decision = drift.Decision(kind="pending", reasons=tuple(said))
    return Verdict(decision=decision, measured={"different_pictures": different})


def _unreadable(stream: Stream, images: Sequence[Image], current: Embedded, fresh: Embedded) -> Verdict | None:
    """Why these images cannot be tested, since too many of them cannot be read."""
    known = {image.id: image for image in images}
    least, different = stream.drift.min_images, len(np.unique(near_groups(fresh.image_ids, known)))
    if different >= least:
        return None
    unread = len(images) - len(current)
    reason = (
        f"{unread:,} of the {len(images):,} images cannot be read from the store. "
        f"That leaves {different:,} to test, and a check needs {least}."
    )
    log.warning("%s Look at its prefix %s.", reason, stream.prefix)
    return Verdict(decision=drift.Decision(kind="pending", reasons=(reason,)))


def _to_keep(
    result: drift.DriftResult,
    by_class: Sequence[drift.ClassDrift],
    evidence: drift.Evidence,
    decision: drift.Decision,
    stream: Stream,
) -> dict[str, Any]:
    """What the catalogue keeps: only what is known."""
    found: dict[str, Any] = {
        "signal": decision.signal,
        "earlier_signals": evidence.earlier_signals,
        "resting": evidence.resting,
        "on_alarm": stream.drift.on_alarm,
        "classes": [asdict(item) for item in by_class],
    }
    cause = result.details.cause
    parts: Mapping[str, Any] = {
        "effect": evidence.effect,
        "expected": evidence.expected,
        "measured": evidence.measured,
        "cause": cause if result.is_drift else None,
    }
    if decision.watched is not None:
        found["watched"] = decision.watched
    return found | {name: asdict(part) for name, part in parts.items() if part is not None}


def _estimate(accuracy: drift.Accuracy | None) -> Estimate | None:
    if accuracy is None:
        return None
    return Estimate(value=accuracy.accuracy, low=accuracy.low, high=accuracy.high, images=accuracy.images)
