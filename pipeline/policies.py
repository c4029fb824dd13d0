"""The parts of a stream file: what may be set for each step, with defaults for someone who sets nothing."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator

from pipeline.cron import valid_cron

# The names of drift.TESTS; a DAG's parse should not pay for importing that room (a test compares the two).
Test = Literal["mmd", "ensemble", "ks", "cvm", "lsdd", "classifier", "learned-kernel", "spot-the-diff"]
# The names of pipeline.images.changes.ALL_CHANGES, compared by a test likewise.
Change = Literal[
    "noise", "blur", "brightness", "contrast", "colour-cast", "rotation", "scale", "jpeg", "inversion",
    "motion", "dirt", "greyscale", "vignette", "pixelate",
]  # fmt: skip
Event = Literal["alarm", "watch", "promotion", "rejection", "waiting", "approval", "failure"]
EVENTS: tuple[Event, ...] = get_args(Event)
Address = Annotated[str, Field(pattern=r"^[^@\s,;<>\"]+@[^@\s,;<>\"]+$", max_length=254)]
Share = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]

MOST_CONSECUTIVE = 30  # checks that an alarm may look back on


class Part(BaseModel):
    """One part of a stream file: unknown keys are errors, numbers are finite, and nothing changes after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class IngestPolicy(Part):
    """What is let in."""

    max_bytes: Count = Field(32 * 1024 * 1024, description="Larger objects are quarantined without a download.")
    max_pixels: Count = Field(64_000_000, description="Larger images are quarantined before they are decoded.")
    min_side: Count = Field(4, description="Images with a shorter side are quarantined.")
    max_seconds: Annotated[float, Field(gt=0, le=3600)] = Field(
        30.0, description="An image that takes longer is quarantined."
    )
    max_bad_share: Annotated[float, Field(gt=0, le=1)] = Field(
        0.2, description="With more than this share of a batch quarantined, the source is broken and ingest fails."
    )
    near_bits: Annotated[int, Field(ge=0, le=4)] = Field(
        4, description="Images whose 64-bit perceptual hashes differ in at most so many bits are near duplicates."
    )
    listing: Literal["full", "dated"] = Field(
        "full", description="`full` compares the whole prefix, `dated` only folders named by recent dates."
    )
    margin_days: Annotated[int, Field(ge=0, le=3650)] = Field(
        2, description="`dated` reads so many days from before the last ingest again."
    )
    workers: Annotated[int, Field(ge=1, le=256)] = Field(8, description="Threads that fetch.")
    processes: Annotated[int, Field(ge=0, le=256)] = Field(
        0, description="That decode; 0 takes every processor there is."
    )


class HoldoutPolicy(Part):
    """Which images no training ever sees."""

    share: Share = Field(0.2, description="Share of the images, chosen by a stable hash of their content.")


class DataPolicy(Part):
    """Which labelled images a retraining uses, and how many it takes to answer an alarm."""

    window: Count | None = Field(
        None, description="At most so many of the newest training images that the champion has not seen; `null`: all."
    )
    replay: Annotated[int, Field(ge=0)] | None = Field(
        20_000, description="At most so many older training images, each class in proportion; `null`: all."
    )
    min_new_labels: Annotated[int, Field(ge=0)] = Field(
        20, description="With fewer labelled new images an alarm waits for labels."
    )


class DriftPolicy(Part):
    """When a batch raises an alarm; docs/drift.md says what each key means."""

    test: Test = Field("ensemble", description="`ensemble` and `mmd` are ours, the others alibi-detect's.")
    changes: tuple[Change, ...] | None = Field(
        None, description="Changes of images that are rehearsed at a promotion; default the first nine, `[]` none."
    )
    permutations: Annotated[int, Field(ge=99, le=100_000)] = 999
    false_alarms_per_year: Annotated[float, Field(gt=0)] = Field(
        1.0, description="How many alarms a year without drift may bring on average; sets the level of each check."
    )
    alpha: Annotated[float, Field(ge=1e-5, lt=1)] | None = Field(
        None, description="Level of one check, instead of the budget."
    )
    min_effect: Annotated[float, Field(ge=0.5, lt=1)] = Field(
        0.55, description="Least AUC of a classifier that tells new from reference images; 0.5 asks for none."
    )
    min_accuracy_drop: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="Least loss of accuracy, measured or expected; 0 asks for none."
    )
    consecutive: tuple[int, int] = Field(
        (1, 1), description="`2 of 3`: an alarm needs drift in 2 of the last 3 checks; `2`: in 2 in a row."
    )
    cooldown: Annotated[int, Field(ge=0, le=1000)] = Field(
        3, description="So many checks after a retraining raise no alarm."
    )
    on_alarm: Literal["retrain", "notify"] = Field(
        "retrain", description="`notify`: the alarm is shown, and nothing is retrained by itself."
    )
    min_images: Annotated[int, Field(ge=5)] = Field(20, description="A smaller batch waits for the next one.")
    max_images: Annotated[int, Field(ge=20)] = Field(5000, description="A larger batch is tested on a random part.")
    seed: int = Field(0, ge=0)

    @field_validator("consecutive", mode="before")
    @classmethod
    def _k_of_n(cls, value: Any) -> Any:
        if isinstance(value, int) and not isinstance(value, bool):
            return (value, value)
        if isinstance(value, str) and (parts := re.fullmatch(r"\s*(\d{1,4})\s+of\s+(\d{1,4})\s*", value)):
            return (int(parts[1]), int(parts[2]))
        return value

    @field_validator("consecutive")
    @classmethod
    def _possible(cls, value: tuple[int, int]) -> tuple[int, int]:
        if not 1 <= value[0] <= value[1] <= MOST_CONSECUTIVE:
            raise ValueError(f"a number such as 2, or `2 of 3`; at most {MOST_CONSECUTIVE} checks are looked at")
        return value

    @field_validator("changes")
    @classmethod
    def _each_once(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is not None and len(set(value)) != len(value):
            raise ValueError("name each change once")
        return value


class ReferencePolicy(Part):
    """Which holdout images stand for normal."""

    min_images: Annotated[int, Field(ge=20)] = 50
    max_images: Annotated[int, Field(ge=20)] = 2000


class GatePolicy(Part):
    """When a challenger takes over."""

    min_gain: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="Least gain in accuracy on new holdout.")
    significance: Annotated[float, Field(gt=0, lt=1)] = Field(0.05, description="Level of McNemar's exact test.")
    max_regression: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.03, description="Largest loss of accuracy on the older holdout."
    )
    min_holdout: Count = Field(20, description="Fewer holdout images cannot decide anything.")
    max_slice_regression: Annotated[float, Field(ge=0, le=1)] = Field(
        0.1, description="Largest loss of accuracy on a class, folder or batch of the holdout."
    )
    slice_significance: Annotated[float, Field(gt=0, le=1)] = Field(
        0.01, description="Level at which such a loss counts (exact sign test); 1 counts every loss."
    )
    min_support: Count = Field(30, description="A class, folder or batch of fewer holdout images is not judged alone.")
    approval: Literal["automatic", "manual"] = Field(
        "automatic", description="`manual`: who has passed the gate waits for a person's approval."
    )
    approval_hours: Annotated[float, Field(gt=0, le=720)] = Field(
        24, description="In Airflow an approval that is not given by then keeps the champion."
    )
    max_latency_factor: Annotated[float, Field(ge=1)] = Field(
        3.0, description="An image may take the challenger so many times as long as the champion."
    )
    max_latency_ms: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Longest time for one image on the machine that retrains, milliseconds; `null` for any."
    )
    max_size_mb: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Largest ONNX file, 10⁶ bytes; `null` for any."
    )


class ScorePolicy(Part):
    """How predictions are made."""

    shard_minutes: Annotated[float, Field(gt=0, le=24 * 60)] = Field(
        5.0, description="A shard takes about so long, by the speed of those before."
    )
    shard_images: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        None, description="A shard has so many images instead."
    )
    parallel_shards: Annotated[int, Field(ge=1, le=1000)] = Field(
        2, description="Shards that Airflow runs at a time: two on one machine, so that starts and ends overlap."
    )
    pool: Annotated[str, Field(min_length=1, max_length=256)] = Field(
        "default_pool", description="Airflow's pool whose slots the shards take; it must exist there."
    )
    batch_size: Count = Field(64, description="Images that go through the network at once; fewer of large ones.")
    top_k: Annotated[int, Field(ge=1, le=100)] = 3
    schedule: str | None = Field("30 6 * * *", description="Catch-up run, cron; `null` for none.")
    threads: Annotated[int, Field(ge=0)] = Field(0, description="Threads; 0 takes every processor there is.")

    @field_validator("schedule")
    @classmethod
    def _cron(cls, value: str | None) -> str | None:
        return valid_cron(value)


class RetentionPolicy(Part):
    """What `tidemark prune` leaves."""

    keep_days: Annotated[int, Field(ge=1, le=36_500)] = Field(
        90, description="What was made, or last in use, so many days ago or less stays."
    )
    predictions: bool = Field(False, description="Whether rows of versions out of use go too.")


class NotifyPolicy(Part):
    """Who is told what; nobody, unless a channel is named."""

    email: tuple[Address, ...] = Field((), description="Addresses that get a mail, by the server of TIDEMARK_SMTP_URL.")
    slack: bool = Field(False, description="Post to the Slack-compatible webhook of TIDEMARK_SLACK_WEBHOOK.")
    webhook: bool = Field(False, description="Post signed JSON to TIDEMARK_WEBHOOK_URL.")
    events: tuple[Event, ...] = Field(EVENTS, description="What is told; default everything.")

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels that are named."""
        named = {"email": bool(self.email), "slack": self.slack, "webhook": self.webhook}
        return tuple(name for name, wanted in named.items() if wanted)
