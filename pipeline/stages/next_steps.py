"""What happens after a check, in sentences: as far as the stream's policies and the labels so far can tell."""

from __future__ import annotations

import drift
from pipeline.records import ModelVersion
from pipeline.stages.training_set import new_since
from pipeline.stages.workplace import Workplace


def next_steps(
    place: Workplace,
    champion: ModelVersion,
    decision: drift.Decision,
    evidence: drift.Evidence,
    policy: drift.Policy,
) -> tuple[str, ...]:
    """What follows from a decision; empty where it is what such a decision means anyway.

    Raises:
        ServiceError: The database does not serve.
    """
    stays = f"Model version {champion.version} stays in charge"
    if decision.kind == "alarm":
        return _after_alarm(place, champion)
    if decision.watched == "labels":
        return (
            f"{stays}; nothing is retrained by itself. Somebody should look at the labels and at the wrong answers.",
            f"`tidemark retrain {place.stream.name}` trains a challenger on the images labelled so far.",
        )
    if decision.kind != "watch" or not decision.signal:
        return ()
    within = policy.alarm_within(evidence)
    if within == 1:
        return (f"{stays}; if the next check finds the difference too, that is an alarm.",)
    if within == evidence.resting:
        return (f"{stays}; if the difference lasts, the first check after the cooldown raises an alarm.",)
    return (f"{stays}; if the difference lasts, one of the next {within:,} checks raises an alarm.",)


def _after_alarm(place: Workplace, champion: ModelVersion) -> tuple[str, ...]:
    """A retraining needs labels of new images, takes over only if it is better, and may need a person's word."""
    stream = place.stream
    version = f"model version {champion.version}"
    labelled = place.catalog.new_labels(stream.name, new_since(champion), stream.classes)
    if stream.drift.on_alarm == "notify":
        stays = f"{version} stays in charge and predicts these images too"
        return (
            f"Nothing is retrained by itself (on_alarm: notify): {stays}.",
            _by_hand(stream.name, labelled, stream.data.min_new_labels),
            _takes_over(stream.gate.approval, version),
        )
    return (
        *_by_itself(stream.name, labelled, stream.data.min_new_labels),
        _takes_over(stream.gate.approval, version),
    )


def _by_hand(stream: str, labelled: int, needed: int) -> str:
    command = f"`tidemark retrain {stream}` trains a challenger"
    if labelled < needed:
        return f"{command} once {_enough(needed)}; so far {_so_far(labelled)}."
    return f"{command} on the images labelled so far; {_new(labelled)}."


def _by_itself(stream: str, labelled: int, needed: int) -> tuple[str, ...]:
    if labelled < needed:
        return (
            f"The retraining waits until {_enough(needed)}; so far {_so_far(labelled)}.",
            f"`tidemark labels {stream} --queue {max(50, needed)}` lists those that are worth most.",
        )
    if labelled == 0:
        return ("No new image has a label: the retraining finds nothing new to learn from, and changes nothing.",)
    return (f"A challenger is trained on the images labelled so far; {_new(labelled)}.",)


def _enough(needed: int) -> str:
    images = "one new image has a label" if needed == 1 else f"{needed:,} new images have labels"
    return f"{images} (data.min_new_labels)"


def _so_far(labelled: int) -> str:
    return {0: "none has", 1: "one has"}.get(labelled, f"{labelled:,} have")


def _new(labelled: int) -> str:
    counted = {0: "none of them is new", 1: "one of them is new"}
    return counted.get(labelled, f"{labelled:,} of them are new")


def _takes_over(approval: str, version: str) -> str:
    person = ", and a person then approves it (gate.approval: manual)" if approval == "manual" else ""
    over = f"The challenger takes over only if it is better on holdout images{person}"
    return f"{over}; until then {version} stays in charge."
