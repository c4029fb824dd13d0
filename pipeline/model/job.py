"""A training's job: a folder that holds what several processes are to learn together."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from pipeline.errors import ConfigurationError
from pipeline.recipe import ModelPolicy, TrainerPolicy, TrainPolicy

if TYPE_CHECKING:
    from pipeline.model.fit import Lesson

_FACTS, _LABELS, _PIXELS, _START = "job.json", "labels.npy", "pixels.npy", "start.safetensors"


@dataclass(frozen=True, slots=True)
class Job:
    """What every process needs to know, but for the lesson itself.

    Attributes:
        folder: Where it lies; beside it, the checkpoint.
        trainer: What it runs on.
        local_ranks: Processes on each machine.
        address: Host and port at which they meet.
    """

    folder: Path
    trainer: TrainerPolicy
    local_ranks: int
    address: tuple[str, int]

    @property
    def ranks(self) -> int:
        """Processes on all machines."""
        return self.local_ranks * self.trainer.nodes

    def write(self, lesson: Lesson) -> None:
        """Write the folder; pixels that are mapped from a file already stay where they are."""
        from safetensors.torch import save_file

        self.folder.mkdir(parents=True)
        pixels, start = lesson.data.pixels, lesson.start
        mapped = isinstance(pixels, np.memmap) and pixels.filename is not None and pixels.offset == 0
        if not mapped:
            np.save(self.folder / _PIXELS, pixels)
        np.save(self.folder / _LABELS, lesson.data.labels)
        if start is not None:
            save_file({name: value.contiguous() for name, value in start.state.items()}, self.folder / _START)
        facts = {
            "trainer": self.trainer.model_dump(),
            "local_ranks": self.local_ranks,
            "address": self.address,
            "model": lesson.model.model_dump(),
            "recipe": lesson.recipe.model_dump(),
            "classes": lesson.classes,
            "pixels": str(Path(pixels.filename).absolute()) if mapped else None,  # type: ignore[attr-defined]
            "shape": pixels.shape,
            "start": None if start is None else {"classes": start.classes, "digest": start.digest},
        }
        (self.folder / _FACTS).write_text(json.dumps(facts), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The inverse of write, without the lesson.

        Raises:
            ConfigurationError: There is no job.
        """
        try:
            facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise ConfigurationError(f"{folder} is no training: name the folder that the first machine told") from None
        host, port = facts["address"]
        return cls(folder, TrainerPolicy.model_validate(facts["trainer"]), facts["local_ranks"], (host, port))

    def lesson(self) -> Lesson:
        """What is to be learnt."""
        from safetensors.torch import load_file

        from pipeline.model.dataset import LabelledPixels
        from pipeline.model.fit import Lesson
        from pipeline.model.start import Start

        facts = json.loads((self.folder / _FACTS).read_text(encoding="utf-8"))
        if facts["pixels"] is None:
            pixels = np.load(self.folder / _PIXELS, mmap_mode="r")
        else:
            pixels = np.memmap(facts["pixels"], np.uint8, "r", shape=tuple(facts["shape"]))
        start = None
        if (begun := facts["start"]) is not None:
            start = Start(load_file(self.folder / _START), tuple(begun["classes"]), begun["digest"])
        return Lesson.of(
            LabelledPixels(pixels, np.load(self.folder / _LABELS)),
            tuple(facts["classes"]),
            ModelPolicy.model_validate(facts["model"]),
            TrainPolicy.model_validate(facts["recipe"]),
            start,
        )
