"""A real network: trained on a part of the images as a night would train it, or a checkpoint of somebody else's."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.model.inference import Classifier
from pipeline.model.metadata import ModelMetadata
from pipeline.progress import track
from pipeline.recipe import ModelPolicy
from pipeline.stream import load_stream
from tests.benchmarks.power.images import ImageSet

RECIPE = "digits"  # the stream whose network and training are taken: small enough for a minute without a GPU


def trained_champion(images: ImageSet, count: int, cache: Path) -> tuple[Classifier, ImageSet]:
    """Train on so many images by the recipe of the stream `digits`: the network, and the images it has not learnt."""
    from pipeline.model.dataset import LabelledPixels
    from pipeline.model.export import export
    from pipeline.model.train import train

    order = np.random.Generator(np.random.PCG64(0)).permutation(len(images))
    target = cache / f"{images.name}-{count}.onnx"
    if not target.exists():
        stream = load_stream(Path(__file__).parents[3] / "streams", RECIPE)
        shown = []
        with track("images to learn from", count) as advance:
            for index in order[:count].tolist():
                shown.append(images.load(index))
                advance(1)
        pixels = np.stack(shown)
        classes = tuple(str(name) for name in np.unique(images.classes))
        learnt = LabelledPixels(pixels, images.classes[order[:count]])
        trained = train(learnt, classes, stream.model, stream.train, work_dir=cache / "work")
        metadata = ModelMetadata(
            classes=classes, preprocessing=trained.preprocessing, architecture=stream.model.architecture
        )
        partial = target.with_suffix(".partial")
        export(trained.network, partial, metadata=metadata, images=pixels[:64], threads=1)
        partial.replace(target)
    return Classifier(target, 1), images.part(np.sort(order[count:]))


def exported_checkpoint(checkpoint: Path, architecture: str, size: int, cache: Path) -> Classifier:
    """Export a timm checkpoint (safetensors) the way the pipeline exports its own."""
    from safetensors.torch import load_file

    from pipeline.model.export import export
    from pipeline.model.network import build_network, preprocessing_for

    target = cache / f"{checkpoint.stem}-{size}.onnx"
    if not target.exists():
        policy = ModelPolicy(architecture=architecture, weights=str(checkpoint), image_size=size)
        heads = [value for key, value in load_file(checkpoint).items() if key.endswith(("classifier.bias", "fc.bias"))]
        classes = len(heads[0]) if heads else 2
        metadata = ModelMetadata(
            classes=tuple(str(index) for index in range(classes)),
            preprocessing=preprocessing_for(policy),
            architecture=architecture,
        )
        example = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (4, size, size, 3), dtype=np.uint8)
        export(build_network(policy, classes), target, metadata=metadata, images=example, threads=1)
    return Classifier(target, 1)
