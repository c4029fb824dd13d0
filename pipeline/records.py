"""Frozen records that pass between the rooms."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

Split = Literal["training", "holdout"]
Decision = Literal["clean", "watch", "alarm", "pending"]


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreObject:
    """One object as a listing shows it."""

    key: str
    bytes: int
    etag: str
    last_modified: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Measures:
    """What can be said of an image's pixels without a network."""

    brightness: float  # mean luminance, 0 … 1
    contrast: float  # RMS contrast: standard deviation of the luminance, 0 … 0.5
    sharpness: float  # variance of the Laplacian of the luminance
    colourfulness: float = 0.0  # Hasler and Süsstrunk's, 0 (grey) … about 110 (extremely colourful)
    entropy: float = 0.0  # of the luminance's histogram of 256 bins, 0 … 8 bits


@dataclass(frozen=True, kw_only=True, slots=True)
class Examined:
    """What decoding an image's bytes found out."""

    width: int
    height: int
    format: str
    measures: Measures
    phash: str  # 64-bit perceptual hash, 16 hexadecimal digits


@dataclass(frozen=True, kw_only=True, slots=True)
class Intake:
    """What ingest found out about one object, ready for the catalogue."""

    object: StoreObject
    sha256: str | None  # None where the content was never read (too large, refused)
    status: Literal["accepted", "quarantined"]
    reason_code: str | None = None
    reason: str | None = None
    split: Split | None = None
    label: str | None = None
    examined: Examined | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Image:
    """One accepted image of the catalogue, with one key that leads to its bytes."""

    id: int
    key: str
    sha256: str
    label: str | None
    split: Split
    batch_id: int
    near_group: int | None = None  # the first image of its group of near duplicates; None where it is like no other
    bytes: int = 0  # of its file; 0 where nobody asked


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """The images that one ingest run took in."""

    id: int
    stream: str
    status: Literal["open", "closed"]
    accepted: int
    quarantined: int
    started_at: datetime
    closed_at: datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One drift test of one batch, with its decision. Without a champion nothing is tested and p_value is None."""

    id: str
    stream: str
    batch_ids: tuple[int, ...]
    model_version: int | None
    test: str | None
    images: int
    reference_images: int | None
    statistic: float | None
    threshold: float | None
    p_value: float | None
    alpha: float | None
    decision: Decision
    reasons: tuple[str, ...]
    report_key: str
    measured: dict[str, Any] = field(default_factory=dict)  # size and cost of a drift, …; see docs/drift.md
    run: str | None = None
    created_at: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """What one model version says of one image."""

    image_id: int
    label: str
    confidence: float
    top_k: tuple[tuple[str, float], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Completeness:
    """How far a version has come with a stream's images: images = predictions + failures + missing.

    Beside them are old images that came back to the store after the plan was made.
    """

    images: int
    predictions: int
    failures: int
    missing: int
    back: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelVersion:
    """One version of a stream's model in the registry."""

    stream: str
    version: int
    run_id: str
    aliases: tuple[str, ...]
    tags: dict[str, str]
    created_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Retraining:
    """One training run with what came of it."""

    id: int
    stream: str
    reason: str
    check_id: str | None
    status: Literal["running", "promoted", "rejected", "unchanged", "failed", "waiting for labels", "awaiting approval"]
    snapshot_key: str | None
    mlflow_run_id: str | None
    model_version: int | None
    evaluation: dict[str, Any] | None
    gate: dict[str, Any] | None
    started_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """One row of a labels file: which image has which label, as the file says it."""

    line: int
    target: str  # a key, whole or relative to the stream's prefix; or a file's name
    by_name: bool  # the target is only a file's name
    label: str
    author: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelProblem:
    """A row of a labels file that is refused, with all that its sentence needs."""

    line: int
    code: str
    target: str | None = None
    label: str | None = None
    detail: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Unlabelled:
    """A row that leaves its label open, as a queue does until somebody fills it in."""

    line: int


@dataclass(frozen=True, kw_only=True, slots=True)
class QueuedImage:
    """An image that waits for a label, with what the champion takes it for."""

    id: int
    key: str
    batch_id: int
    drifted: bool  # the newest check of its batch was an alarm or a watch
    predicted: str | None  # None where the champion has not predicted it
    confidence: float | None
