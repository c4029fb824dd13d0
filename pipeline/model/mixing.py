"""What is done to a batch besides geometry: rectangles erased, pairs of images mixed."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from pipeline.errors import ConfigurationError
from pipeline.model.augment import seed_of
from pipeline.recipe import TrainPolicy


class Mixing:
    """Random erasing, mixup and cutmix by timm, drawn from a seed of the step's own."""

    def __init__(self, policy: TrainPolicy, classes: int) -> None:
        from timm.data import Mixup
        from timm.data.random_erasing import RandomErasing

        self._erase = RandomErasing(policy.erasing, device="cpu") if policy.erasing else None
        self._mix = None
        if policy.mixup or policy.cutmix:
            self._mix = Mixup(policy.mixup, policy.cutmix, label_smoothing=0.0, num_classes=classes)

    def __call__(
        self, pixels: torch.Tensor, labels: torch.Tensor, middle: torch.Tensor, seed: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(b, h, w, 3) float pixels, which are changed, and (b,) labels → pixels, and labels or (b, classes) targets.

        ``middle`` is the colour, (1, 3, 1, 1), that an erased rectangle gets: the mean that the network subtracts. Of
        an odd number of images one is left out where they are mixed.
        """
        if self._erase is None and self._mix is None:
            return pixels, labels
        # timm draws from the process's own generators; training runs with them set apart.
        random.seed(seed)
        np.random.seed(seed % 2**32)
        images = pixels.permute(0, 3, 1, 2)
        if self._erase is not None:
            images = self._erase(images - middle) + middle
        if self._mix is not None:
            even = len(images) // 2 * 2
            images, labels = self._mix(images[:even], labels[:even])
        return images.permute(0, 2, 3, 1), labels


class ImageAugment:
    """timm's automatic augmentation, image by image."""

    def __init__(self, text: str, size: int, seed: int) -> None:
        """Read timm's string for images of so many pixels a side.

        Raises:
            ConfigurationError: timm does not know it.
        """
        from timm.data import auto_augment

        self._seed = seed
        kind = text.partition("-")[0]
        make = auto_augment.auto_augment_transform
        if kind == "rand":
            make = auto_augment.rand_augment_transform
        elif kind == "augmix":
            make = auto_augment.augment_and_mix_transform
        try:
            self._apply = make(text, {"translate_const": int(size * 0.45), "translate_pct": 0.3})
        except (AssertionError, KeyError, ValueError) as error:
            raise ConfigurationError(f"train.augment: timm does not understand {text!r} ({error})") from None

    def __call__(self, pixels: npt.NDArray[np.uint8], keys: Sequence[tuple[int, ...]]) -> npt.NDArray[np.uint8]:
        """Alter images, each by a seed of its own: (b, h, w, 3) uint8 and b keys → (b, h, w, 3) uint8."""
        result = np.empty_like(pixels)
        for position, key in enumerate(keys):
            seed = seed_of(self._seed, *key)
            random.seed(seed)
            np.random.seed(seed % 2**32)
            result[position] = np.asarray(self._apply(Image.fromarray(pixels[position])))
        return result
