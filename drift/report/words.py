"""What a decision means, in sentences for people who know nothing of statistics."""

from __future__ import annotations

from drift.policy import Kind

WORTH_SAYING = 0.01  # of accuracy: less than a point is not for a headline


def verdict(
    kind: Kind,
    *,
    first: bool = False,
    differ: bool = True,
    looks: str | None = None,
    cost: str = "",
    retrains: bool = True,
) -> str:
    """The decision in one sentence.

    Args:
        kind: What was decided.
        first: There is no model yet.
        differ: The test found drift.
        looks: The rehearsed change that the images look like.
        cost: What it costs, as ``cost`` says it.
        retrains: An alarm starts a retraining, rather than calling a person.
    """
    if first:
        return "There is no model yet: these images are for a first one to learn from."
    if kind == "watch" and not differ:
        return "These images look like the ones the model was judged on, but more of its answers to them are wrong."
    they_differ = (
        f"These images differ from the ones the model was judged on{f' (likely cause: {looks})' if looks else ''}"
    )
    return {
        "clean": "These images look like the ones the model was judged on.",
        "watch": f"{they_differ}, though not enough to act.",
        "alarm": f"{they_differ}{cost}: {'it needs retraining' if retrains else 'somebody should look at them'}.",
        "pending": "There are too few images for a check so far.",
    }[kind]


def cost(baseline: float | None, measured: float | None, expected: float | None) -> str:
    """What a drift costs in right answers, as part of a sentence; empty where it is nothing or not known."""
    now = expected if measured is None else measured
    if baseline is None or now is None or baseline - now < WORTH_SAYING:
        return ""
    gets = f"should get about {now:.0%}" if measured is None else f"gets {now:.0%}"
    return f", and it {gets} of them right instead of {baseline:.0%}"


def next_steps(kind: Kind, model_version: int | None) -> tuple[str, ...]:
    """What follows from a decision where the caller knows nothing more exact."""
    if model_version is None:
        return (
            "A first model is trained on the labelled images and judged on holdout images that it never sees.",
            "If it is good enough, it takes charge and predicts every image in the store.",
        )
    champion = f"Model version {model_version}"
    return {
        "clean": (f"{champion} stays in charge and predicts the images that have no prediction yet.",),
        "watch": (f"{champion} stays in charge; the next checks show whether the difference grows.",),
        "alarm": (
            "A challenger is trained on the images labelled so far, the new ones among them.",
            f"It takes over only if it is better on holdout images; until then {champion.lower()} stays in charge.",
        ),
        "pending": ("The images wait, and are checked together with the next batch.",),
    }[kind]
