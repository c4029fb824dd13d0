"""What Label Studio imports: tasks with links to the images, and the configuration of the labelling page."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, TextIO
from xml.sax.saxutils import quoteattr

from pipeline.records import QueuedImage


def write_tasks(file: TextIO, images: Iterable[tuple[QueuedImage, str]], model: str) -> None:
    """Write one task an image, with what the champion predicts shown as a suggestion.

    The key travels in the task's data, and so comes back in every format that Label Studio exports.

    Args:
        file: Opened with ``encoding="utf-8"``.
        images: Each with a link that needs no credentials.
        model: What Label Studio shows as the origin of the suggestions.
    """
    file.write("[")
    for number, (image, link) in enumerate(images):
        file.write(",\n" if number else "\n")
        json.dump(_task(image, link, model), file, ensure_ascii=False)
    file.write("\n]\n")


def _task(image: QueuedImage, link: str, model: str) -> dict[str, Any]:
    data = {
        "image": link,
        "key": image.key,
        "batch": image.batch_id,
        "drifted": image.drifted,
        "predicted": image.predicted,
        "confidence": None if image.confidence is None else round(image.confidence, 4),
    }
    if image.predicted is None:
        return {"data": data}
    answer = {"from_name": "label", "to_name": "image", "type": "choices", "value": {"choices": [image.predicted]}}
    return {"data": data, "predictions": [{"model_version": model, "score": image.confidence, "result": [answer]}]}


def configuration(classes: Sequence[str]) -> str:
    """The labelling page: the image, and one choice among the classes."""
    choices = "\n".join(f"    <Choice value={quoteattr(name)}/>" for name in classes)
    return (
        "<View>\n"
        '  <Image name="image" value="$image" zoom="true"/>\n'
        '  <Choices name="label" toName="image" choice="single" required="true" showInline="true">\n'
        f"{choices}\n"
        "  </Choices>\n"
        "</View>\n"
    )
