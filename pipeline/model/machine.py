"""What a training runs on: one process, or one for each of several devices and machines."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pipeline.errors import ConfigurationError
from pipeline.recipe import TrainerPolicy, TrainPolicy


@dataclass(frozen=True, slots=True)
class Machine:
    """What a training runs on.

    Attributes:
        device: ``cpu``, ``cuda`` or ``mps``.
        local_ranks: Processes on this machine.
        ranks: Processes on all of them.
        together: Whether they are processes of their own, under DDP.
    """

    device: str
    local_ranks: int
    ranks: int
    together: bool


def machine_for(policy: TrainerPolicy, recipe: TrainPolicy) -> Machine:
    """What these settings come to here.

    Raises:
        ConfigurationError: This machine has not what they ask for.
    """
    device = _device(policy)
    if recipe.precision == "16" and device == "cpu":
        raise ConfigurationError("train.precision 16 needs a GPU, and there is none: `bf16` works on processors too")
    there = torch.cuda.device_count() if device == "cuda" else 1
    if device == "cuda" and policy.devices != "auto" and policy.devices > there:
        raise ConfigurationError(
            f"trainer.devices {policy.devices}, but this machine has {there}: lower it, or `auto` takes every GPU"
        )
    local = there if policy.devices == "auto" else policy.devices
    ranks = local * policy.nodes
    together = ranks > 1 or policy.strategy == "ddp"
    if together and device == "mps":
        raise ConfigurationError("Apple's GPU learns alone: set trainer.devices 1, or trainer.accelerator cpu")
    return Machine(device, local, ranks, together)


def _device(policy: TrainerPolicy) -> str:
    if policy.accelerator == "cpu":
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    if torch.backends.mps.is_available():
        return "mps"
    if policy.accelerator == "gpu":
        raise ConfigurationError("trainer.accelerator gpu: there is no GPU here, `auto` takes one where there is one")
    return "cpu"
