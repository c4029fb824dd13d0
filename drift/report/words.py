"""What a decision means, in sentences for people who know nothing of statistics."""

from __future__ import annotations

from drift.policy import Kind, Watched

WORTH_SAYING = 0.01  # of accuracy: less than a point is not for a headline


def verdict(
    kind: Kind,
    *,
    first: bool = False,
    tested: bool = True,
    differ: bool = True,
    looks: str | None = None,
    cost: str = "",
    watched: Watched | None = None,
    retrains: bool = True,
) -> str:
    """The decision in one sentence.

    Args:
        kind: What was decided.
        first: There is no model yet.
        tested: There was a test.
        differ: The test found drift.
        looks: The rehearsed change that the images look like.
        cost: What it costs, as ``cost`` says it.
        watched: What a watch is about.
        retrains: An alarm starts a retraining, rather than calling a person.
    """
    if first:
        return "There is no model yet: these images are for a first one to learn from."
    alike = "These images look like the ones the model was judged on"
    they_differ = (
        f"These images differ from the ones the model was judged on{f' (likely cause: {looks})' if looks else ''}"
    )
    price = f", and {cost}" if cost else ""
    if kind == "watch":
        return f"{_watched(watched, they_differ if differ else alike, differ, cost)}."
    return {
        "clean": f"{alike}." if tested else "There was nothing to check: the model was trained on these images.",
        "alarm": f"{they_differ}{price}: {'it needs retraining' if retrains else 'somebody should look at them'}.",
        "pending": "These images cannot be checked yet.",
    }[kind]


def _watched(about: Watched | None, images: str, differ: bool, cost: str) -> str:
    """Why there is no alarm, and never more weakly than what was found: a watch may be as strong as an alarm."""
    price = f", and {cost}" if cost else ""
    if about == "labels" or not differ:
        little = " by too little for an alarm" if differ else ""
        return f"{images}{little}, but {cost or 'more of its answers to them are wrong'}"
    return {
        "size": f"{images}, by too little for an alarm",
        "cost": f"{images}{price}: too small a loss for an alarm" if cost else f"{images}, but it copes with them",
        "checks": f"{images}{price}: an alarm waits until further checks find this too",
        "cooldown": f"{images}{price}: an alarm waits for the cooldown to end",
    }.get(about or "", f"{images}{price}: they raise no alarm")


def cost(baseline: float | None, measured: float | None, expected: float | None) -> str:
    """What a drift costs in right answers, as part of a sentence; empty where it is nothing or not known."""
    now = expected if measured is None else measured
    if baseline is None or now is None or baseline - now < WORTH_SAYING:
        return ""
    gets = f"should get about {now:.0%}" if measured is None else f"gets {now:.0%}"
    return f"it {gets} of them right instead of {baseline:.0%}"


def next_steps(kind: Kind, model_version: int | None) -> tuple[str, ...]:
    """What follows from a decision where the caller knows nothing more exact."""
    if model_version is None:
        return (
            "A first model is trained on the labelled images and judged on holdout images that it never sees.",
            "If it is good enough, and approved where that is asked for, it takes charge and predicts every image.",
        )
    champion = f"Model version {model_version}"
    return {
        "clean": (f"{champion} stays in charge and predicts the images that have no prediction yet.",),
        "watch": (f"{champion} stays in charge; the next checks show whether the difference grows.",),
        "alarm": (
            "A challenger is trained as soon as enough of the new images are labelled.",
            f"It takes over only if it is better on holdout images; until then {champion.lower()} stays in charge.",
        ),
        "pending": ("The next check looks at them again, together with what has come by then.",),
    }[kind]
