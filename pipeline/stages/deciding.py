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
from pipeline.policies import DriftPolicy
from pipeline.records import Image, ModelVersion
from pipeline.stages.answers import open_classifier
from pipeline.stages.embeddings import Embedded, embed_batches
from pipeline.stages.evidence import Samples, accuracies, earlier_signals, resting
from pipeline.stages.promotion import load_reference
from pipeline.stages.rehearsing import near_groups
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
    classifier = open_classifier(place, champion)
    reference = load_reference(place, champion.version)
    current = embed_batches(place, classifier, champion.version, batches, images)
    known = {image.id: image for image in images}
    fresh = _rows(current, _never_trained_on(current, images, champion))
    held_up = _held_up(stream, champion, images, current, fresh)
    if held_up is not None:
        return held_up
    samples = Samples(
        reference=reference,
        reference_images={image.id: image for image in place.catalog.images(stream.name, reference.image_ids.tolist())},
        current=_rows(fresh, _sample(len(fresh), stream.drift)),
        images=known,
        classes=classifier.classes,
        policy=stream.drift,
    )
    policy = decision_policy(stream)
    log.info("testing %d images against %d of the reference", len(samples.current), len(reference))
    try:
        result = samples.test(policy.level_for(len(reference), len(samples.current)))
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
        next_steps=_next_steps(decision, evidence, stream, champion),
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


def _never_trained_on(current: Embedded, images: Sequence[Image], champion: ModelVersion) -> NDArray[np.int64]:
    """Rows of images that the champion has not learnt: a network maps those it has to other places than fresh ones."""
    last = int(champion.tags.get("last_batch", 0))
    learnt = {image.id for image in images if image.split == "training" and image.label and image.batch_id <= last}
    return np.array([row for row, image in enumerate(current.image_ids.tolist()) if image not in learnt], np.int64)


def _sample(count: int, policy: DriftPolicy) -> NDArray[np.int64]:
    """Rows that are tested: all, or a random part of a very large batch, sorted."""
    if count <= policy.max_images:
        return np.arange(count)
    rng = np.random.Generator(np.random.PCG64(policy.seed))
    return np.sort(rng.choice(count, policy.max_images, replace=False))


def _rows(embedded: Embedded, rows: NDArray[np.int64]) -> Embedded:
    return Embedded(
        embedded.image_ids[rows], embedded.probabilities[rows], embedded.embeddings[rows], embedded.failures
    )


def _held_up(
    stream: Stream, champion: ModelVersion, images: Sequence[Image], current: Embedded, fresh: Embedded
) -> Verdict | None:
    """Why these images cannot be tested, if they cannot."""
    least = stream.drift.min_images
    if len(fresh) < least and len(fresh) < len(current):
        reason = f"Version {champion.version} was trained on these images: they cannot tell whether others differ."
        return Verdict(decision=drift.Decision(kind="clean", reasons=(reason,)))
    if len(fresh) < least:
        reason = f"Only {len(current)} of the {len(images)} images can be read from the store."
        log.warning("%s Look at its prefix %s.", reason, stream.prefix)
        return Verdict(decision=drift.Decision(kind="pending", reasons=(reason,)))
    different = len(np.unique(near_groups(fresh.image_ids, {image.id: image for image in images})))
    if different < least:
        reason = (
            f"Only {different} of the {len(fresh)} images are different pictures, the others near duplicates of them: "
            f"a check needs {least} and waits for {least - different} more."
        )
        return Verdict(decision=drift.Decision(kind="pending", reasons=(reason,)))
    return None


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
    return found | {name: asdict(part) for name, part in parts.items() if part is not None}


def _estimate(accuracy: drift.Accuracy | None) -> Estimate | None:
    if accuracy is None:
        return None
    return Estimate(value=accuracy.accuracy, low=accuracy.low, high=accuracy.high, images=accuracy.images)


def _next_steps(
    decision: drift.Decision, evidence: drift.Evidence, stream: Stream, champion: ModelVersion
) -> tuple[str, ...]:
    stays = f"Model version {champion.version} stays in charge"
    if decision.kind == "alarm" and stream.drift.on_alarm == "notify":
        return (
            f"Nothing is retrained by itself (on_alarm: notify): {stays.lower()} and predicts these images too.",
            f"`tidemark retrain {stream.name}` trains a challenger on the images labelled so far.",
        )
    if decision.kind == "watch" and decision.signal and evidence.resting > 0:
        return (f"{stays}; if the difference lasts, the first check after the cooldown raises an alarm.",)
    if decision.kind == "watch" and decision.signal:
        return (f"{stays}; if the next checks find the difference too, that is an alarm.",)
    return ()
