"""Networks: a timm model with its weights, and the module around it that is trained, exported and compared."""

from __future__ import annotations

import difflib
import logging
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from pipeline.errors import ConfigurationError, TrainingFailed
from pipeline.images.preprocess import FILTERS, Preprocessing
from pipeline.model.start import Start, shrink_and_perturb
from pipeline.recipe import ModelPolicy

log = logging.getLogger(__name__)

HUB_TIMEOUT = 10.0  # seconds; the hub's client itself would try for most of a minute
SUFFIXES = (".safetensors", ".pth", ".pt")
LOCAL_OPTION = "set model.weights to the path of a local .safetensors or .pth file, or to `none`"


class Deployable(nn.Module):
    """A classifier from pixels to answers: (b, h, w, 3), 0 … 255, in; what the ONNX file computes, out."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, backbone: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.backbone = backbone
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1) * 255)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1) * 255)

    def features(self, pixels: torch.Tensor) -> torch.Tensor:
        """(b, h, w, 3) uint8 or float pixels → what the network's head takes in."""
        images = pixels.permute(0, 3, 1, 2).to(torch.float32)
        features: torch.Tensor = self.backbone.forward_features((images - self.mean) / self.std)
        return features

    def logits(self, pixels: torch.Tensor) -> torch.Tensor:
        """(b, h, w, 3) → (b, classes) float32, for the loss."""
        return self.head(self.features(pixels))

    def head(self, features: torch.Tensor) -> torch.Tensor:
        """What features gives → (b, classes)."""
        logits: torch.Tensor = self.backbone.forward_head(features)
        return logits

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(b, h, w, 3) uint8 → probabilities (b, classes) and embeddings (b, dim), both float32."""
        features = self.features(pixels)
        # The head runs twice, with and without its last layer, because timm's heads differ in what comes between;
        # in the ONNX graph the common part is computed once.
        embedding: torch.Tensor = self.backbone.forward_head(features, pre_logits=True)
        logits: torch.Tensor = self.backbone.forward_head(features)
        return logits.softmax(dim=1).to(torch.float32), embedding.flatten(1).to(torch.float32)


def build_network(policy: ModelPolicy, classes: Sequence[str] | int, start: Start | None = None) -> Deployable:
    """A network for these classes, with the recipe's weights; normalisation follows the architecture.

    ``start`` are the champion's weights, for a recipe that begins with them; where there are none, or they are of
    another architecture, the recipe's first weights serve.

    Raises:
        ConfigurationError: There is no such architecture, it cannot take images of this size, or the weights' file does
            not exist, does not read or belongs to another architecture.
        TrainingFailed: The hub of the ImageNet weights does not answer.
    """
    config = _config(policy.architecture)
    names = tuple(str(number) for number in range(classes)) if isinstance(classes, int) else tuple(classes)
    backbone = None
    if policy.weights == "champion" and start is not None:
        backbone = _create(policy, len(names))
        if not shrink_and_perturb(backbone, start, names, shrink=policy.shrink, perturb=policy.perturb):
            log.warning("the champion is no %s: beginning with model.first_weights", policy.architecture)
            backbone = None
    if backbone is None:
        backbone = _with_weights(policy, len(names), config)
    network = Deployable(backbone, tuple(config.mean), tuple(config.std))
    _require_size(network, policy)
    return network


def _with_weights(policy: ModelPolicy, classes: int, config: Any) -> nn.Module:
    weights = policy.first_weights if policy.weights == "champion" else policy.weights
    if weights == "imagenet":
        return _with_hub_weights(policy, classes, config)
    backbone = _create(policy, classes)
    if weights != "none":
        _load_weights(backbone, Path(weights), policy.architecture, config)
    return backbone


def preprocessing_for(policy: ModelPolicy) -> Preprocessing:
    """The preprocessing of a recipe: its size, the interpolation that timm names for the architecture, no crop; large
    JPEGs are decoded at reduced size.

    Raises:
        ConfigurationError: There is no such architecture.
    """
    interpolation = _config(policy.architecture).interpolation
    return Preprocessing(policy.image_size, 1.0, interpolation if interpolation in FILTERS else "bicubic", reduced=True)


def _config(architecture: str) -> Any:
    """The PretrainedCfg of an architecture: mean, std, interpolation, where its weights are."""
    config = None
    # `is_model` would also accept addresses of models on a hub or in a folder, whose code and weights nobody reviewed.
    if timm.is_model(architecture) and not set(architecture) & set(":/\\"):
        try:
            config = timm.get_pretrained_cfg(architecture)
        except RuntimeError:  # a tag such as `.a1_in1k` that does not exist
            tags = timm.list_pretrained(f"{architecture.partition('.')[0]}.*")
            raise ConfigurationError(
                f"model.architecture {architecture!r}: there are no such weights, but {', '.join(tags) or 'none'}"
            ) from None
    if config is None:
        close = difflib.get_close_matches(architecture, timm.list_models(), n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else "name one, such as resnet18 or efficientnet_b0"
        raise ConfigurationError(f"model.architecture: timm has no model {architecture!r}: {hint}")
    return config


def _create(policy: ModelPolicy, classes: int, **options: Any) -> nn.Module:
    if timm.get_pretrained_cfg_value(policy.architecture, "fixed_input_size"):
        options["img_size"] = policy.image_size
    backbone: nn.Module = timm.create_model(policy.architecture, num_classes=classes, **options)
    return backbone


def _with_hub_weights(policy: ModelPolicy, classes: int, config: Any) -> nn.Module:
    if not (config.hf_hub_id or config.url):
        raise ConfigurationError(f"timm has no ImageNet weights for {policy.architecture}: {LOCAL_OPTION}")
    cached = _cached(config.hf_hub_id) if config.hf_hub_id else None
    try:
        if cached is not None:
            backbone = _create(policy, classes, pretrained=True, pretrained_cfg_overlay={"file": cached})
        else:
            _require_hub()
            backbone = _create(policy, classes, pretrained=True)
    except (OSError, RuntimeError) as error:  # the hub's and requests' exceptions are OSErrors
        log.debug("loading the ImageNet weights failed", exc_info=True)
        failure = f"the ImageNet weights of {policy.architecture} cannot be downloaded ({type(error).__name__})"
        raise TrainingFailed(f"{failure}: {LOCAL_OPTION}") from None
    if classes != config.num_classes:
        _begin_undecided(backbone)
    return backbone


def _cached(hub_id: str) -> str | None:
    """Where an earlier download of these weights lies."""
    from huggingface_hub import try_to_load_from_cache

    for name in ("model.safetensors", "pytorch_model.bin"):
        found = try_to_load_from_cache(hub_id, name)
        if isinstance(found, str):
            return found
    return None


def _require_hub() -> None:
    import requests
    from huggingface_hub import constants

    requests.head(constants.ENDPOINT, timeout=HUB_TIMEOUT)


def _load_weights(backbone: nn.Module, path: Path, architecture: str, config: Any) -> None:
    """Load a state dict; the classifier's tensors are left out where the number of classes differs."""
    if path.suffix not in SUFFIXES:
        raise ConfigurationError(
            f"model.weights is `none`, `imagenet`, `champion` or a {' or '.join(SUFFIXES)} file, not {path}"
        )
    if not path.is_file():
        raise ConfigurationError(f"model.weights: there is no file {path.absolute()}: {LOCAL_OPTION}")
    state = _read_state(path)
    expected = backbone.state_dict()
    classifiers = (config.classifier,) if isinstance(config.classifier, str) else tuple(config.classifier or ())
    head = {key for key in expected if any(key.startswith(f"{name}.") for name in classifiers)}
    # A complete head of another width is left out; so is one that a checkpoint of features does not have.
    if any(key not in state or state[key].shape != expected[key].shape for key in head):
        state = {key: value for key, value in state.items() if key not in head}
    missing = sorted(
        key for key in expected if key not in state and key not in head and not key.endswith("num_batches_tracked")
    )
    unknown = sorted(key for key in state if key not in expected)
    other = sorted(key for key in state if key in expected and state[key].shape != expected[key].shape)
    if missing or unknown or other:
        example = (missing or unknown or other)[0]
        raise ConfigurationError(
            f"model.weights: {path} is not of architecture {architecture} ({len(missing)} tensors missing, "
            f"{len(unknown)} unknown, {len(other)} of another shape, such as {example}): name the architecture it is of"
        )
    backbone.load_state_dict(state, strict=False)
    kept = "with" if head <= state.keys() else "without"
    if kept == "without":
        _begin_undecided(backbone)
    log.info("Loaded %d tensors of %s, %s its classifier", len(state), path, kept)


def _read_state(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from timm.models import load_state_dict

    try:
        state = load_state_dict(str(path), weights_only=True)
    except (OSError, RuntimeError, ValueError, KeyError, EOFError, pickle.UnpicklingError, SafetensorError) as error:
        reason = str(error).strip().partition("\n")[0][:200] or type(error).__name__
        raise ConfigurationError(
            f"model.weights: {path} does not read as plain tensors ({reason}): save a state dict again"
        ) from None
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ConfigurationError(f"model.weights: {path} holds more than tensors: save a state dict only")
    return state


def _begin_undecided(backbone: nn.Module) -> None:
    """Set a fresh classifier on learnt features to zero, so that it first gives every class the same probability.

    timm draws those of an EfficientNet the wider the fewer classes there are: with five, the first losses are above
    ten, and what they do to the features takes epochs to mend. Source: Kolesnikov et al., Big Transfer, ECCV 2020.
    """
    classifier = backbone.get_classifier()
    for parameter in classifier.parameters() if isinstance(classifier, nn.Module) else ():
        nn.init.zeros_(parameter)


def _require_size(network: Deployable, policy: ModelPolicy) -> None:
    size = policy.image_size
    was_training = network.training
    try:
        with torch.inference_mode():
            network.eval()(torch.zeros(2, size, size, 3, dtype=torch.uint8))
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0][:120]
        raise ConfigurationError(
            f"{policy.architecture} cannot take images of {size} × {size} pixels ({reason}): change model.image_size"
        ) from None
    finally:
        network.train(was_training)
