"""Augmentation of whole batches: rotation, shift and mirror image as one resampling."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name

from pipeline.recipe import TrainPolicy


def augment(pixels: torch.Tensor, policy: TrainPolicy, generator: torch.Generator) -> torch.Tensor:
    """Turn, shift and mirror each image of a batch at random: (b, h, w, 3) → (b, h, w, 3) float32, 0 … 255.

    What comes in over the edge continues the edge. Random numbers are drawn on the CPU, so that a seed gives the same
    images on every device.
    """
    count, height, width, _ = pixels.shape
    if policy.rotation == 0 and policy.shift == 0:
        if policy.flip:
            mirrored = torch.rand(count, generator=generator).to(pixels.device) < 0.5
            pixels = torch.where(mirrored.view(-1, 1, 1, 1), pixels.flip(2), pixels)
        return pixels.to(torch.float32)
    images = pixels.permute(0, 3, 1, 2).to(torch.float32)
    angles = (torch.rand(count, generator=generator) * 2 - 1) * math.radians(policy.rotation)
    shifts = (torch.rand(count, 2, generator=generator) * 2 - 1) * policy.shift * 2  # the grid runs from -1 to 1
    mirrors = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0) if policy.flip else torch.ones(count)
    matrices = torch.zeros(count, 2, 3)
    matrices[:, 0, 0] = mirrors * angles.cos()
    matrices[:, 0, 1] = -angles.sin() * (height / width)
    matrices[:, 1, 0] = mirrors * angles.sin() * (width / height)
    matrices[:, 1, 1] = angles.cos()
    matrices[:, :, 2] = shifts
    grid = F.affine_grid(matrices.to(images.device), list(images.shape), align_corners=False)
    changed = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    # Channels last in memory too, whatever the recipe: as the network then goes on, and faster on processors.
    return changed.permute(0, 2, 3, 1).contiguous()


def seeded(*keys: int) -> torch.Generator:
    """A generator for these keys, such as seed, epoch and batch: a run that resumes draws what it would have drawn."""
    return torch.Generator().manual_seed(seed_of(*keys))


def seed_of(*keys: int) -> int:
    """64 bits that follow from these keys."""
    return int(np.random.SeedSequence(keys).generate_state(1, np.uint64)[0])
