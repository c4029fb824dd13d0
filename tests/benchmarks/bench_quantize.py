"""The 8-bit variant of a trained network beside its 32 bits: accuracy on images that no training saw, speed, size.

    python -m tests.benchmarks.bench_quantize --images photos/ --weights network.safetensors \
        --architecture tf_efficientnet_lite0 --size 96 --share 0.3

`--images` is a folder of class folders, `--weights` what a retraining keeps as `weights/network.safetensors`, or any
state dict with a head for these classes. The images are those that a stream with this `holdout.share` holds out; a part
of them calibrates, as in a retraining. Time is the quickest of five rounds, both files in turn. Without images they are
digits and the network is drawn at random, which says something of the speed only.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
from pathlib import Path

import numpy as np

from pipeline.images.decode import Limits
from pipeline.images.prepare import prepare
from pipeline.recipe import ExportPolicy, ModelPolicy
from pipeline.stages.ingest import split_of

SUFFIXES = {".jpg", ".jpeg", ".png"}


def main() -> None:
    """Print a table."""
    from pipeline.model.export import export
    from pipeline.model.metadata import ModelMetadata
    from pipeline.model.network import build_network, preprocessing_for
    from pipeline.model.quantize import quantize_if_better

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--weights", default="none")
    parser.add_argument("--architecture", default="resnet10t")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--share", type=float, default=0.3)
    parser.add_argument("--most", type=int, default=1000)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    policy = ModelPolicy(architecture=options.architecture, weights=options.weights, image_size=options.size)
    preprocessing = preprocessing_for(policy)
    files = from_folder(options.images, options.share) if options.images else digits()
    classes = sorted({label for _, label in files})
    files = [files[row] for row in np.linspace(0, len(files) - 1, min(options.most, len(files))).astype(int)]
    pixels = np.stack([prepare(data, Limits(), preprocessing) for data, _ in files])
    labels = np.array([classes.index(label) for _, label in files], np.int64)
    metadata = ModelMetadata(
        classes=tuple(classes),
        preprocessing=preprocessing,
        architecture=options.architecture,
        stream="bench",
        snapshot="0" * 64,
        version=1,
        extra={},
    )
    network = build_network(policy, classes).eval()
    print("| threads | images | accuracy, 32 bits | 8 bits | times as fast | MB, 32 bits | 8 bits | taken |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |")
    for threads in options.threads:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            export(network, path, metadata=metadata, images=pixels[:64], threads=threads)
            size = path.stat().st_size
            found = quantize_if_better(path, ExportPolicy(), images=pixels, labels=labels, threads=threads)
        figures = (f"{found.accuracy:.4f}", f"{found.int8_accuracy:.4f}", f"{found.speedup:.2f}")
        sizes = (f"{size / 1e6:.1f}", f"{found.bytes / 1e6:.1f}")
        print(
            "| " + " | ".join((str(threads), str(found.images), *figures, *sizes, "yes" if found.used else "no")) + " |"
        )


def from_folder(folder: Path, share: float) -> list[tuple[bytes, str]]:
    """Files and classes of the images that are held out."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    files = [(path.read_bytes(), path.parent.name) for path in paths]
    return [file for file in files if split_of(hashlib.sha256(file[0]).hexdigest(), share) == "holdout"]


def digits() -> list[tuple[bytes, str]]:
    """Scikit-learn's scans as files."""
    from tests.benchmarks.bench_story import digits as scans

    return [(data, label) for label, files in scans(40).items() for data in files]


if __name__ == "__main__":
    main()
