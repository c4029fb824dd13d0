"""Check: one pass of the champion over a batch, a drift test against its reference, a decision, a report."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

import drift
from pipeline.errors import CheckFailed, ConfigurationError
from pipeline.model.inference import Classifier
from pipeline.records import Batch, Check, Decision, Image, ModelVersion
from pipeline.stages.embeddings import Embedded, embed_batches
from pipeline.stages.promotion import load_reference
from pipeline.stages.reporting import Tested, write_report
from pipeline.stages.workplace import Workplace
from pipeline.storage import keys
from pipeline.stream import DriftPolicy, Stream

log = logging.getLogger(__name__)


def check(place: Workplace, batch: int | None = None, *, force: bool = False) -> dict[str, Any]:
    """Check every batch that no check has decided on, or one batch by its id.

    Small batches are checked together with the ones that follow. Without a champion there is nothing to test against:
    the decision is an alarm, so that a first model is trained.

    The result says how the stream stands, not only what this call found: an alarm stays the decision until a retraining
    has answered it. So a check that is killed after its decision and run again still hands its alarm over.

    Raises:
        ConfigurationError: There is no such batch.
        CheckFailed: The embeddings of a batch cannot be tested.
        ServiceError: Store, database or registry do not serve.
    """
    name = place.stream.name
    failed: list[CheckFailed] = []
    with place.catalog.lock("check", name):
        champion = place.registry.champion(name)
        checks = []
        for group in _groups(place, batch, champion):
            done = None if force else _done(place, group, champion)
            if done is not None:
                log.info("check %s was made already", done.id)
                checks.append(done)
                continue
            try:
                checks.append(_check(place, group, champion))
            except CheckFailed as error:  # the other batches shall not wait for this one
                log.error("%s", error)
                failed.append(error)
        standing = place.catalog.unanswered_alarm(name)
        if standing is None and failed:
            raise failed[0]
        newest = place.catalog.checks(name, limit=1)
    for item in checks:
        log.info("check %s: %s. %s", item.id, item.decision, " ".join(item.reasons))
    if standing is not None and standing not in checks:
        log.info("the alarm of check %s is not answered yet", standing.id)
    last = standing or _weightiest(checks) or (newest[0] if newest else None)
    return {
        "stage": "check",
        "stream": name,
        "decision": last.decision if last else "none",
        "check": last.id if last else None,
        "report": checks[-1].id if checks else last.id if last else None,
        "batch": last.batch_ids[-1] if last else None,
        "p_value": last.p_value if last else None,
        "checks": [item.id for item in checks][-20:],
    }


def _weightiest(checks: Sequence[Check]) -> Check | None:
    """The newest decision; a check that waits counts where there is no other."""
    chosen = [item for item in checks if item.decision != "pending"] or checks
    return chosen[-1] if chosen else None


def _groups(place: Workplace, batch: int | None, champion: ModelVersion | None) -> list[list[Batch]]:
    """Batches that are checked together: each alone, too small ones with those that follow."""
    name = place.stream.name
    if batch is not None:
        found = place.catalog.batch(name, batch)
        if found is None or found.status != "closed" or found.accepted == 0:
            known = ", ".join(str(item.id) for item in place.catalog.batches(name)[-10:]) or "none yet"
            raise ConfigurationError(f"stream {name} has no batch {batch} with images; its newest batches: {known}")
        return [[replace(found, accepted=len(place.catalog.batch_images(name, [batch])))]]
    waiting = place.catalog.unchecked_batches(name)
    if champion is None:
        return [waiting] if waiting else []
    groups: list[list[Batch]] = []
    images = 0
    for item in waiting:
        if not groups or images >= place.stream.drift.min_images:
            groups.append([])
            images = 0
        groups[-1].append(item)
        images += item.accepted
    return groups


def _done(place: Workplace, group: list[Batch], champion: ModelVersion | None) -> Check | None:
    """The check of these batches by this champion, unless it waited for images that have come by now."""
    made = place.catalog.check(_id(group, champion))
    images = sum(item.accepted for item in group)
    if made is not None and made.decision == "pending" and images >= place.stream.drift.min_images:
        return None
    return made


def _id(group: list[Batch], champion: ModelVersion | None, repetition: int = 0) -> str:
    batches = f"{group[0].id}" if len(group) == 1 else f"{group[0].id}-{group[-1].id}"
    again = f"-r{repetition}" if repetition else ""
    return f"b{batches}-v{champion.version if champion else 0}{again}"


def _new_id(place: Workplace, group: list[Batch], champion: ModelVersion | None) -> str:
    repetition = 0
    while place.catalog.check(_id(group, champion, repetition)) is not None:
        repetition += 1
    return _id(group, champion, repetition)


def _check(place: Workplace, group: list[Batch], champion: ModelVersion | None) -> Check:
    name, stream = place.stream.name, place.stream
    batch_ids = tuple(item.id for item in group)
    images = place.catalog.batch_images(name, batch_ids)
    check_id = _new_id(place, group, champion)
    common: dict[str, Any] = {
        "id": check_id,
        "stream": name,
        "batch_ids": batch_ids,
        "images": len(images),
        "report_key": keys.report(name, check_id),
        "run": place.settings.run,
        "model_version": champion.version if champion else None,
    }
    if champion is None:
        reason = f"There is no champion yet: the {len(images):,} images are for a first model to learn from."
        made = _untested(common, "alarm", (reason,))
        tested = None
    elif len(images) < stream.drift.min_images:
        made = _untested(common, "pending", drift.decide(None, len(images), decision_policy(stream)).reasons)
        tested = None
    else:
        made, tested = _test(place, common, champion, images)
    write_report(place, made, tested)
    place.catalog.record_check(made)
    return made


def _untested(common: dict[str, Any], decision: Decision, reasons: tuple[str, ...]) -> Check:
    nothing: dict[str, Any] = dict.fromkeys(
        ("test", "reference_images", "statistic", "threshold", "p_value", "alpha"), None
    )
    return Check(decision=decision, reasons=reasons, **nothing, **common)


def _test(
    place: Workplace, common: dict[str, Any], champion: ModelVersion, images: Sequence[Image]
) -> tuple[Check, Tested | None]:
    stream = place.stream
    batch_ids = common["batch_ids"]
    classifier = Classifier(place.registry.model_file(champion), stream.score.threads)
    reference = load_reference(place, champion.version)
    current = embed_batches(place, classifier, champion.version, batch_ids, images)
    fresh = _never_trained_on(current, images, champion)
    rows = _sample(fresh, stream.drift)
    if len(rows) < stream.drift.min_images:
        if len(fresh) < len(current):
            reason = f"Version {champion.version} was trained on these images: they cannot tell whether others differ."
            return _untested(common, "clean", (reason,)), None
        reason = f"Only {len(current)} of the {len(images)} images can be read from the store."
        log.warning("%s Look at its prefix %s.", reason, stream.prefix)
        return _untested(common, "pending", (reason,)), None
    policy = decision_policy(stream)
    log.info("testing %d images against %d of the reference", len(rows), len(reference))
    try:
        result = drift.detect(
            reference.embeddings,
            current.embeddings[rows],
            test=stream.drift.test,
            permutations=policy.needed_permutations,
            alpha=policy.level,
            seed=stream.drift.seed,
        )
    except drift.DriftError as error:
        raise CheckFailed(f"batch {batch_ids[-1]} of stream {stream.name} cannot be tested: {error}") from None
    decision = drift.decide(result, len(fresh), policy)
    left_out = len(current) - len(fresh)
    known = (f"Left out: {left_out:,} images that version {champion.version} was trained on.",) if left_out else ()
    made = Check(
        test=result.test,
        reference_images=len(reference),
        statistic=result.statistic,
        threshold=result.threshold,
        p_value=result.p_value,
        alpha=result.alpha,
        decision=decision.kind,
        reasons=decision.reasons + known,
        **common,
    )
    shown = Embedded(current.image_ids[rows], current.probabilities[rows], current.embeddings[rows], current.failures)
    return made, Tested(result, reference, shown, classifier.classes)


def _never_trained_on(current: Embedded, images: Sequence[Image], champion: ModelVersion) -> NDArray[np.int64]:
    """Rows of images that the champion has not learnt: a network maps those it has to other places than fresh ones."""
    last = int(champion.tags.get("last_batch", 0))
    learnt = {image.id for image in images if image.split == "training" and image.label and image.batch_id <= last}
    return np.array([row for row, image in enumerate(current.image_ids.tolist()) if image not in learnt], np.int64)


def _sample(rows: NDArray[np.int64], policy: DriftPolicy) -> NDArray[np.int64]:
    """Rows that are tested: all, or a random part of a very large batch, sorted."""
    if len(rows) <= policy.max_images:
        return rows
    rng = np.random.Generator(np.random.PCG64(policy.seed))
    return np.sort(rng.choice(rows, policy.max_images, replace=False))


def decision_policy(stream: Stream) -> drift.Policy:
    """The stream's drift policy in the words of the drift room."""
    policy = stream.drift
    return drift.Policy(
        alpha=policy.alpha,
        false_alarms_per_year=policy.false_alarms_per_year,
        checks_per_year=stream.checks_per_year,
        min_images=policy.min_images,
        permutations=policy.permutations,
    )
