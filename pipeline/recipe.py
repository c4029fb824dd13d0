"""The recipe: the parts of a stream file that say how a model is made. A single run may replace them."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from pipeline.policies import Count, Part, Share

# The first words of timm's strings; the rest is timm's to judge, when training begins.
AUGMENT = re.compile(r"(rand|augmix|originalr?|v0r?|3a)(-[a-z]+[0-9.]+)*")


class ModelPolicy(Part):
    """Which network, at which size, from which weights."""

    architecture: str = Field("resnet18", description="A timm model name: any ResNet or EfficientNet.")
    weights: str = Field(
        "none", description="`none`, `imagenet` (timm downloads them), `champion` or a local checkpoint's path."
    )
    first_weights: str = Field("none", description="With `weights: champion`: what to begin with while there is none.")
    shrink: Annotated[float, Field(gt=0, le=1)] = Field(
        0.6, description="With `weights: champion`: what its weights are multiplied by."
    )
    perturb: Annotated[float, Field(ge=0, le=1)] = Field(
        0.01, description="With `weights: champion`: share of freshly drawn weights that is added."
    )
    image_size: Annotated[int, Field(ge=16, le=1024)] = Field(224, description="Side of the network's input, pixels.")

    @model_validator(mode="after")
    def _coherent(self) -> ModelPolicy:
        if self.first_weights == "champion":
            raise ValueError("first_weights: they serve while there is no champion; name `none`, `imagenet` or a file")
        return self


class TrainPolicy(Part):
    """How it is trained; docs/training.md says what each key means."""

    epochs: Count = 20
    batch_size: Annotated[int, Field(ge=2)] = 32
    accumulate: Count = Field(1, description="Batches whose gradients make one step.")
    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="`sgd` with Nesterov momentum 0.9.")
    schedule: Literal["cosine", "plateau"] = Field("cosine", description="How the learning rate falls.")
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    validation_share: Share = Field(0.1, description="Share of the training images that early stopping looks at.")
    monitor: Literal["loss", "accuracy", "balanced_accuracy"] = Field(
        "loss", description="The validation figure that tells the best epoch and when to stop."
    )
    patience: Count = Field(5, description="Epochs without improvement before training stops.")
    freeze: Annotated[int, Field(ge=0)] = Field(0, description="So many epochs first, the head alone learns.")
    blocks: Annotated[int, Field(ge=0)] | None = Field(
        None, description="Besides the head only so many last blocks ever learn; default all."
    )
    balance: Literal["none", "weights", "sampling"] = Field(
        "none", description="Rare classes weigh more in the loss, or are drawn more often."
    )
    fraction: Annotated[float, Field(gt=0, le=1)] = Field(1.0, description="Share of the images, for a quick try.")
    rotation: Annotated[float, Field(ge=0, le=180)] = Field(10.0, description="Augmentation: largest angle, degrees.")
    shift: Annotated[float, Field(ge=0, le=0.5)] = Field(0.1, description="Augmentation: largest shift, share of side.")
    flip: bool = Field(False, description="Augmentation: mirror left and right.")
    augment: str | None = Field(None, description="Augmentation by timm's string, such as `rand-m9-mstd0.5-inc1`.")
    erasing: Annotated[float, Field(ge=0, le=1)] = Field(0.0, description="How often a random rectangle is erased.")
    mixup: Annotated[float, Field(ge=0)] = Field(0.0, description="Alpha of mixup; 0 is off.")
    cutmix: Annotated[float, Field(ge=0)] = Field(0.0, description="Alpha of cutmix; 0 is off.")
    ema: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="Decay of a moving average of the weights, which is then the model; 0 is off."
    )
    precision: Literal["32", "bf16", "16"] = Field("32", description="Mixed with 32 bits; `16` needs a GPU.")
    channels_last: bool = Field(False, description="Memory order of images in the network.")
    seed: Annotated[int, Field(ge=0)] = 0
    threads: Annotated[int, Field(ge=0)] = Field(0, description="Threads; 0 takes every processor there is.")
    workers: Annotated[int, Field(ge=0, le=64)] = Field(0, description="Processes that apply timm's augmentation.")

    @field_validator("precision", mode="before")
    @classmethod
    def _number(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("augment")
    @classmethod
    def _of_timm(cls, value: str | None) -> str | None:
        if value is not None and not AUGMENT.fullmatch(value):
            raise ValueError(
                "one of timm's strings such as `rand-m9-mstd0.5-inc1`, `original`, `v0`, `3a` or `augmix-m3`"
            )
        return value

    @model_validator(mode="after")
    def _coherent(self) -> TrainPolicy:
        if (self.mixup or self.cutmix) and self.batch_size % 2:
            raise ValueError("mixup and cutmix mix pairs of images: batch_size must be even")
        if self.freeze >= self.epochs and self.blocks != 0:
            raise ValueError("freeze leaves no epoch for the rest of the network: it must be below epochs")
        return self


class TrainerPolicy(Part):
    """What a training runs on. No part of the recipe: the same one runs anywhere."""

    accelerator: Literal["auto", "cpu", "gpu"] = Field("auto", description="`auto` takes a GPU where there is one.")
    devices: Count | Literal["auto"] = Field(
        1, description="GPUs of a machine, or processes on CPUs; `auto`: every GPU there is."
    )
    nodes: Count = Field(1, description="Machines; each has so many devices.")
    strategy: Literal["auto", "ddp"] = Field(
        "auto", description="`ddp`: a process for each device; `auto` takes it for more than one."
    )
    tensorboard: bool = Field(False, description="Write the epochs for TensorBoard, too.")


class ExportPolicy(Part):
    """What the ONNX file is like."""

    quantize: Literal["none", "int8"] = Field("none", description="`int8`: an 8-bit variant, where it is better.")
    max_loss: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.005, description="Largest loss of accuracy on the holdout that the 8-bit variant may bring."
    )
    min_speedup: Annotated[float, Field(ge=1)] = Field(1.3, description="How many times as fast it must be at least.")
