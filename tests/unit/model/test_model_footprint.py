from __future__ import annotations

import numpy as np
import pytest

from pipeline.model.footprint import ROUNDS, Footprint, measure
from pipeline.model.gate import Evaluations, GateDecision, judge
from pipeline.model.inference import Classifier
from pipeline.policies import GatePolicy
from tests.unit.model.conftest import Digits, Exported
from tests.unit.model.test_model_gate import answered

FAIR = Footprint(latency_ms=2.0, batch_ms=1.0, batch_size=64, threads=1, rounds=31, megabytes=10.0, difference=1e-6)


def decide(ours: Footprint | None, **policy: float) -> GateDecision:
    """A challenger that is much better, at some cost, against a champion that costs what is fair."""
    return judge(
        GatePolicy(**policy),
        challenger=Evaluations(new=answered(120, 10), old=answered(290, 10), footprint=ours),
        champion=Evaluations(new=answered(60, 70), old=answered(292, 8), footprint=FAIR),
    )


def cost(**changes: float | None) -> Footprint:
    return Footprint(**{**FAIR.to_dict(), **changes})


def test_what_costs_the_same_takes_over_and_says_so() -> None:
    decision = decide(FAIR)
    assert decision.promote
    assert decision.reasons[-1] == ("costs what it may: 2.00 ms an image against the champion's 2.00 ms, 10.0 MB")


def test_fast_but_broken_stays_out() -> None:
    decision = decide(cost(latency_ms=0.1, difference=0.3))
    assert not decision.promote
    assert decision.reasons == (
        "broken: probabilities of the ONNX file differ from what was trained by up to 0.3, less than 0.0001 is allowed",
    )
    for broken in (1e-4, float("nan")):
        assert not decide(cost(difference=broken)).promote


def test_nobody_has_compared_it() -> None:
    assert decide(cost(difference=None)).reasons == ("broken: nobody has compared its ONNX file with what was trained",)


@pytest.mark.parametrize(
    ("changes", "policy", "said"),
    [
        ({"latency_ms": 6.1}, {}, "too slow: 6.10 ms an image against the champion's 2.00 ms, 3 times as long"),
        (
            {"latency_ms": 5.0},
            {"max_latency_ms": 4.0},
            "too slow: 5.00 ms an image against the champion's 2.00 ms, 4 ms",
        ),
        ({"megabytes": 25.0}, {"max_size_mb": 24.9}, "too large: 25.0 MB, 24.9 MB are allowed"),
    ],
)
def test_too_slow_or_too_large_stays_out(changes: dict[str, float], policy: dict[str, float], said: str) -> None:
    decision = decide(cost(**changes), **policy)
    assert not decision.promote
    (reason,) = decision.reasons
    assert reason.startswith(said)


def test_exactly_what_is_allowed_is_allowed() -> None:
    assert decide(cost(latency_ms=6.0, megabytes=25.0), max_latency_ms=6.0, max_size_mb=25.0).promote


def test_limits_hold_for_a_first_model_too() -> None:
    first = Evaluations(new=None, old=answered(95, 5), footprint=cost(megabytes=30.0))
    assert judge(GatePolicy(), challenger=first, champion=None).promote
    decision = judge(GatePolicy(max_size_mb=24), challenger=first, champion=None)
    assert not decision.promote
    assert decision.reasons == ("too large: 30.0 MB, 24 MB are allowed",)


def test_a_real_model_is_measured(exported: Exported, digits: Digits) -> None:
    models = {who: Classifier(exported.path, threads=1) for who in ("challenger", "champion")}
    pixels = dict.fromkeys(models, digits.holdout.pixels)
    found = measure(models, pixels, 16, {"challenger": 1e-6})
    ours, theirs = found["challenger"], found["champion"]
    assert ours.megabytes == pytest.approx(exported.report.bytes / 1e6)
    assert (ours.rounds, ours.batch_size, ours.threads, ours.difference) == (ROUNDS, 16, 1, 1e-6)
    assert theirs.difference is None
    assert ours.latency_ms > 0
    assert ours.batch_ms > 0
    assert 0.6 < ours.latency_ms / theirs.latency_ms < 1.6  # the same file, however busy the machine is
    assert "31 runs" in ours.how


def test_few_images_are_enough(exported: Exported, digits: Digits) -> None:
    found = measure(
        {"one": Classifier(exported.path, threads=1)}, {"one": np.asarray(digits.holdout.pixels[:1])}, 64, {}
    )
    assert found["one"].batch_size == 1
