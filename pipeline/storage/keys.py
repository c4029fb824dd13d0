"""Every key the project writes in the artefact bucket, as pure functions. Whatever lies under them is immutable."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence


def batch_manifest(stream: str, batch: int, digest: str) -> str:
    """The list of a batch's images, JSON lines; named by the content's SHA-256."""
    return f"batches/{stream}/{batch}/images-{digest[:16]}.jsonl"


def embeddings(stream: str, version: int, shard: str) -> str:
    """Image ids, probabilities and embeddings of one shard under one model version."""
    return f"embeddings/{stream}/{version}/{shard}.npz"


def check_shard(batches: tuple[int, ...]) -> str:
    """Name of the shard that a check of these batches keeps; short however many they are."""
    if len(batches) == 1:
        return f"batch-{batches[0]}"
    digest = hashlib.sha256(",".join(str(batch) for batch in batches).encode()).hexdigest()
    return f"batches-{batches[0]}-{batches[-1]}-{digest[:12]}"


def score_shard(images: Sequence[int]) -> str:
    """Name of the shard that scoring keeps of images by id, in ascending order."""
    digest = hashlib.sha256(",".join(str(image) for image in images).encode()).hexdigest()
    return f"images-{images[0]}-{images[-1]}-{digest[:12]}"


def embedding_parts(stream: str, version: int, shard: str | None = None) -> str:
    """Prefix of what scoring keeps of a shard, or of all, until it is done; then one file of ``embeddings`` has it."""
    return f"embeddings/{stream}/{version}/parts/{f'{shard}/' if shard else ''}"


def embedding_part(stream: str, version: int, shard: str, images: Sequence[int]) -> str:
    """Some images of a shard that is under way, by id."""
    return f"{embedding_parts(stream, version, shard)}{score_shard(images)}.npz"


def reference(stream: str, version: int) -> str:
    """Embeddings and probabilities of the holdout images that stand for normal under one model version."""
    return f"references/{stream}/{version}/reference.npz"


def report(stream: str, check: str, kind: str = "html") -> str:
    """A check's report; its kind is ``html`` or ``json``."""
    return f"checks/{stream}/{check}/report.{kind}"


def properties(stream: str, check: str) -> str:
    """Evidently's page on the measures of a check's images, beside its report."""
    return f"checks/{stream}/{check}/properties.html"


def snapshot(stream: str, digest: str) -> str:
    """The images and labels that a training run used; named by the content's SHA-256."""
    return f"snapshots/{stream}/{digest}.parquet"


def queues(stream: str, check: str) -> str:
    """Prefix of the labelling queues of an alarm that waited for labels."""
    return f"queues/{stream}/{check}/"


def queue(stream: str, check: str, day: str, name: str) -> str:
    """A file of a labelling queue; one a day, because its links end."""
    return f"{queues(stream, check)}{day}/{name}"


def embeddings_of(stream: str) -> str:
    """Prefix of the embeddings of all of a stream's versions."""
    return f"embeddings/{stream}/"


def queues_of(stream: str) -> str:
    """Prefix of the labelling queues of all of a stream's alarms."""
    return f"queues/{stream}/"


def checks_of(stream: str) -> str:
    """Prefix of the files of all of a stream's checks."""
    return f"checks/{stream}/"


PROBES = "doctor/"  # what `tidemark doctor` writes to see whether it can, gone at once


def probe(name: str) -> str:
    """A small object that is written, read and deleted."""
    return f"{PROBES}{name}"


def stream_prefixes(stream: str) -> tuple[str, ...]:
    """Everything that belongs to one stream."""
    return tuple(
        f"{room}/{stream}/" for room in ("batches", "embeddings", "references", "checks", "snapshots", "queues")
    )
