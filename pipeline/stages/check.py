"""Check: one pass of the champion over a batch, a drift test against its reference, a decision, a report.

Here is which batches are checked together, and that each check is made once; deciding.py looks at the images.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import drift
from pipeline.errors import CheckFailed, ConfigurationError
from pipeline.records import Batch, Check, ModelVersion
from pipeline.stages.deciding import Verdict, decide_on, decision_policy, learnt_by
from pipeline.stages.reporting import write_report
from pipeline.stages.workplace import Workplace
from pipeline.storage import keys

log = logging.getLogger(__name__)


def check(place: Workplace, batch: int | None = None, *, force: bool = False) -> dict[str, Any]:
    """Check every batch that no check has decided on, or one batch by its id.

    Small batches are checked together with the ones that follow. Without a champion there is nothing to test against:
    the decision is an alarm, so that a first model is trained.

    The result says how the stream stands, not only what this call found: an alarm stays the decision until a retraining
    has answered it. So a check that is killed after its decision and run again still hands its alarm over. What follows
    is ``next``: retrain, score, or none. Where the stream says ``on_alarm: notify`` no retraining follows an alarm, and
    none stands: the champion goes on.

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
                checks.append(_check(place, group, champion, alone=batch is not None))
            except CheckFailed as error:  # the other batches shall not wait for this one
                log.error("%s", error)
                failed.append(error)
        standing = _standing(place)
        if standing is None and failed:
            raise failed[0]
        newest = place.catalog.checks(name, limit=1)
    for item in checks:
        tell = log.warning if item.decision == "alarm" else log.info
        tell("check %s: %s. %s", item.id, item.decision, " ".join(item.reasons))
    if standing is not None and standing not in checks:
        log.info("the alarm of check %s is not answered yet", standing.id)
    last = standing or _weightiest(checks) or (newest[0] if newest else None)
    return {
        "stage": "check",
        "stream": name,
        "decision": last.decision if last else "none",
        "next": _next(place, last),
        "check": last.id if last else None,
        "report": checks[-1].id if checks else last.id if last else None,
        "batch": last.batch_ids[-1] if last else None,
        "p_value": last.p_value if last else None,
        "checks": [item.id for item in checks][-20:],
    }


def _standing(place: Workplace) -> Check | None:
    """The alarm that a retraining has yet to answer."""
    alarm = place.catalog.unanswered_alarm(place.stream.name)
    return alarm if alarm is not None and _retrains(place, alarm) else None


def _retrains(place: Workplace, alarm: Check) -> bool:
    """Whether a retraining follows an alarm by itself. A first model is trained in any case."""
    return place.stream.drift.on_alarm == "retrain" or alarm.model_version is None


def _next(place: Workplace, last: Check | None) -> Literal["retrain", "score", "none"]:
    if last is None or last.decision == "pending":
        return "none"
    return "retrain" if last.decision == "alarm" and _retrains(place, last) else "score"


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
    pictures: set[int] = set()  # of the last group, that can be tested
    for item in waiting:
        if not groups or (len(pictures) >= place.stream.drift.min_images and not _unread(place, groups[-1], champion)):
            groups.append([])
            pictures = set()
        groups[-1].append(item)
        images = place.catalog.batch_images(name, [item.id])
        learnt = learnt_by(champion, images)
        pictures |= {image.near_group or image.id for image in images if image.id not in learnt}
    return groups


def _unread(place: Workplace, group: list[Batch], champion: ModelVersion) -> bool:
    """Whether the check of these batches waits though there are enough: images could not be read."""
    made = _newest(place, group, champion)
    least = place.stream.drift.min_images
    return made is not None and made.decision == "pending" and _pictures(made) >= least


def _done(place: Workplace, group: list[Batch], champion: ModelVersion | None) -> Check | None:
    """The check of these batches by this champion, unless it would come out otherwise now."""
    made = _newest(place, group, champion)
    if made is None or made.decision != "pending":
        return made
    # What could not be read may be readable now, and images go and come back. Too few pictures stay too few.
    images = sum(item.accepted for item in group)
    return made if made.images == images and _pictures(made) < place.stream.drift.min_images else None


def _pictures(pending: Check) -> int:
    """How many different pictures a check that waits had to test."""
    return int(pending.measured.get("different_pictures", pending.images))


def _newest(place: Workplace, group: list[Batch], champion: ModelVersion | None) -> Check | None:
    """The newest check of exactly these batches by this champion."""
    return next(reversed(_made(place, group, champion)), None)


def _made(place: Workplace, group: list[Batch], champion: ModelVersion | None) -> list[Check]:
    """The checks of exactly these batches by this champion, oldest first."""
    made: list[Check] = []
    while (found := place.catalog.check(_id(group, champion, len(made)))) is not None:
        made.append(found)
    return made


def _id(group: list[Batch], champion: ModelVersion | None, repetition: int = 0) -> str:
    batches = f"{group[0].id}" if len(group) == 1 else f"{group[0].id}-{group[-1].id}"
    again = f"-r{repetition}" if repetition else ""
    return f"b{batches}-v{champion.version if champion else 0}{again}"


def _new_id(place: Workplace, group: list[Batch], champion: ModelVersion | None) -> str:
    return _id(group, champion, len(_made(place, group, champion)))


def _check(place: Workplace, group: list[Batch], champion: ModelVersion | None, *, alone: bool = False) -> Check:
    """Check a group of batches; ``alone`` says that it was asked for by its id, and no other batch joins it."""
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
        verdict = Verdict(decision=drift.Decision(kind="alarm", reasons=(reason,)))
    elif len(images) < stream.drift.min_images:
        verdict = Verdict(decision=drift.decide(None, len(images), decision_policy(stream)))
    else:
        verdict = decide_on(place, champion, batch_ids, images)
    if alone and verdict.decision.kind == "pending" and _is_decided(place, group[0]):
        waits = " ".join(verdict.decision.reasons)
        raise CheckFailed(f"batch {group[0].id} of stream {name} keeps its decision, since nothing joins it: {waits}")
    made = _record(verdict, common)
    write_report(place, made, verdict.tested, next_steps=verdict.next_steps)
    place.catalog.record_check(made)
    return made


def _is_decided(place: Workplace, batch: Batch) -> bool:
    return batch.id not in {item.id for item in place.catalog.unchecked_batches(place.stream.name)}


def _record(verdict: Verdict, common: dict[str, Any]) -> Check:
    result = verdict.tested.result if verdict.tested else None
    return Check(
        test=result.test if result else None,
        reference_images=len(verdict.tested.reference) if verdict.tested else None,
        statistic=result.statistic if result else None,
        threshold=result.threshold if result else None,
        p_value=result.p_value if result else None,
        alpha=result.alpha if result else None,
        decision=verdict.decision.kind,
        reasons=verdict.decision.reasons,
        measured=verdict.measured,
        **common,
    )
