"""Check: one pass of the champion over a batch, a drift test against its reference, a decision, a report."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import drift
from pipeline.errors import CheckFailed, ConfigurationError
from pipeline.model.inference import Classifier
from pipeline.records import Batch, Check, ModelVersion
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

    Raises:
        ConfigurationError: There is no such batch.
        CheckFailed: The images of a batch cannot be read any more.
        ServiceError: Store, database or registry do not serve.
    """
    name = place.stream.name
    with place.catalog.lock("check", name):
        champion = place.registry.champion(name)
        checks = []
        for group in _groups(place, batch, champion):
            done = None if force else _done(place, group, champion)
            if done is not None:
                log.info("check %s was made already", done.id)
            checks.append(done or _check(place, group, champion, force=force))
    for item in checks:
        log.info("check %s: %s. %s", item.id, item.decision, " ".join(item.reasons))
    if not checks:
        log.info("no batch waits for a check")
    last = _weightiest(checks)
    return {
        "stage": "check",
        "stream": name,
        "decision": last.decision if last else "none",
        "check": last.id if last else None,
        "batch": last.batch_ids[-1] if last else None,
        "p_value": last.p_value if last else None,
        "checks": [item.id for item in checks][-20:],
    }


def _weightiest(checks: Sequence[Check]) -> Check | None:
    """The newest alarm where there is one, else the newest decision, else the newest that waits."""
    for kinds in (("alarm",), ("watch", "clean"), ("pending",)):
        found = [item for item in checks if item.decision in kinds]
        if found:
            return found[-1]
    return None


def _groups(place: Workplace, batch: int | None, champion: ModelVersion | None) -> list[list[Batch]]:
    """Batches that are checked together: each alone, too small ones with those that follow."""
    name = place.stream.name
    if batch is not None:
        found = place.catalog.batch(name, batch)
        if found is None or found.status != "closed" or found.accepted == 0:
            known = ", ".join(str(item.id) for item in place.catalog.batches(name)[-10:]) or "none yet"
            raise ConfigurationError(f"stream {name} has no batch {batch} with images; its newest batches: {known}")
        return [[found]]
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
    return place.catalog.check(_id(group, champion))


def _id(group: list[Batch], champion: ModelVersion | None, repetition: int = 0) -> str:
    batches = f"{group[0].id}" if len(group) == 1 else f"{group[0].id}-{group[-1].id}"
    again = f"-r{repetition}" if repetition else ""
    return f"b{batches}-v{champion.version if champion else 0}{again}"


def _new_id(place: Workplace, group: list[Batch], champion: ModelVersion | None, *, force: bool) -> str:
    repetition = 0
    while force and place.catalog.check(_id(group, champion, repetition)) is not None:
        repetition += 1
    return _id(group, champion, repetition)


def _check(place: Workplace, group: list[Batch], champion: ModelVersion | None, *, force: bool) -> Check:
    name, policy = place.stream.name, place.stream.drift
    batch_ids = tuple(item.id for item in group)
    images = place.catalog.batch_images(name, batch_ids)
    check_id = _new_id(place, group, champion, force=force)
    common: dict[str, Any] = {
        "id": check_id,
        "stream": name,
        "batch_ids": batch_ids,
        "images": len(images),
        "report_key": keys.report(name, check_id),
        "run": place.settings.run,
    }
    nothing: dict[str, Any] = dict.fromkeys(
        ("test", "reference_images", "statistic", "threshold", "p_value", "alpha"), None
    )
    if champion is None:
        reasons = (f"There is no champion yet: the {len(images):,} images are for a first model to learn from.",)
        made = Check(model_version=None, decision="alarm", reasons=reasons, **nothing, **common)
        write_report(place, made, None)
    elif len(images) < policy.min_images:
        decision = drift.decide(None, len(images), decision_policy(place.stream))
        made = Check(model_version=champion.version, decision="pending", reasons=decision.reasons, **nothing, **common)
        write_report(place, made, None)
    else:
        made = _test(place, common, champion, batch_ids)
    place.catalog.record_check(made)
    return made


def _test(place: Workplace, common: dict[str, Any], champion: ModelVersion, batch_ids: tuple[int, ...]) -> Check:
    stream = place.stream
    classifier = Classifier(place.registry.model_file(champion), stream.score.threads)
    reference = load_reference(place, champion.version)
    images = place.catalog.batch_images(stream.name, batch_ids)
    current = embed_batches(place, classifier, champion.version, batch_ids, images)
    if len(current) < stream.drift.min_images:
        raise CheckFailed(
            f"only {len(current)} of the {len(images)} images of batch {batch_ids[-1]} can be read: "
            f"look at the store's prefix {stream.prefix}, then run `tidemark check {stream.name}` again"
        )
    rows = _sample(len(current), stream.drift)
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
    decision = drift.decide(result, len(current), policy)
    made = Check(
        model_version=champion.version,
        test=result.test,
        reference_images=len(reference),
        statistic=result.statistic,
        threshold=result.threshold,
        p_value=result.p_value,
        alpha=result.alpha,
        decision=decision.kind,
        reasons=decision.reasons,
        **common,
    )
    shown = Embedded(current.image_ids[rows], current.probabilities[rows], current.embeddings[rows], current.failures)
    write_report(place, made, Tested(result, reference, shown, classifier.classes))
    return made


def _sample(count: int, policy: DriftPolicy) -> NDArray[np.int64]:
    """Rows of a batch that are tested: all, or a random part of a very large batch, sorted."""
    if count <= policy.max_images:
        return np.arange(count)
    rng = np.random.Generator(np.random.PCG64(policy.seed))
    return np.sort(rng.choice(count, policy.max_images, replace=False))


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
