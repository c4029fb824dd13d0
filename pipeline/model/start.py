"""Weights of a trained version, kept beside its ONNX file, for a training that begins with them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import nn

from pipeline.errors import ArtefactDamaged

_CLASSES = "classes"


@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """What a training begins with.

    Attributes:
        state: Tensors of the backbone, by name.
        classes: Names of the rows of its classifier.
        digest: SHA-256 of the file, hexadecimal.
    """

    state: dict[str, torch.Tensor]
    classes: tuple[str, ...]
    digest: str

    @classmethod
    def read(cls, path: Path) -> Self:
        """The inverse of keep_weights.

        Raises:
            ArtefactDamaged: The file does not read.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="pt") as file:
                classes = json.loads((file.metadata() or {})[_CLASSES])
                state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
        except (OSError, KeyError, ValueError, SafetensorError) as error:
            raise ArtefactDamaged(f"the champion's weights do not read ({error}): retrain with other weights") from None
        return cls(state, tuple(classes), digest)


def keep_weights(backbone: nn.Module, classes: Sequence[str], path: Path) -> None:
    """Write a backbone's tensors as a .safetensors file; `model.weights` takes it too."""
    from safetensors.torch import save_file

    state = {name: value.contiguous() for name, value in backbone.state_dict().items()}
    save_file(state, path, {_CLASSES: json.dumps(list(classes))})


def shrink_and_perturb(
    backbone: nn.Module, start: Start, classes: Sequence[str], *, shrink: float, perturb: float
) -> bool:
    """Give a freshly made backbone weights to begin with: shrink · theirs + perturb · its own.

    The classifier's rows follow the names of the classes; those of new classes stay fresh. Statistics of normalisation
    layers are taken as they are. False, and nothing is changed, where the weights are of another architecture.

    Source: Ash & Adams, On Warm-Starting Neural Network Training, NeurIPS 2020; as there, the noise is that of a fresh
    initialisation.
    """
    classifier = {id(parameter) for parameter in _parameters(backbone.get_classifier())}
    heads = {name for name, parameter in backbone.named_parameters() if id(parameter) in classifier}
    own = backbone.state_dict()
    if own.keys() != start.state.keys() or any(
        own[name].shape[1 if name in heads else 0 :] != value.shape[1 if name in heads else 0 :]
        for name, value in start.state.items()
    ):
        return False
    rows = [(new, start.classes.index(name)) for new, name in enumerate(classes) if name in start.classes]
    learnt = {name for name, _ in backbone.named_parameters()}
    with torch.no_grad():
        for name, theirs in start.state.items():
            if name in heads:
                for new, old in rows:
                    own[name][new].mul_(perturb).add_(theirs[old], alpha=shrink)
            elif name in learnt:
                own[name].mul_(perturb).add_(theirs, alpha=shrink)
            else:
                own[name].copy_(theirs)
    return True


def _parameters(classifier: nn.Module | Sequence[nn.Module]) -> list[nn.Parameter]:
    modules = [classifier] if isinstance(classifier, nn.Module) else list(classifier)
    return [parameter for module in modules for parameter in module.parameters()]
