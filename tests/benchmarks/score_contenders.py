"""What scoring is measured against: its ceilings, timm's way, and the plain loop. Each gives images a second."""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import boto3
import numpy as np
import psycopg2
from PIL import Image

from pipeline.images.decode import Limits
from pipeline.images.prepare import prepare
from pipeline.images.preprocess import Preprocessing
from pipeline.model.inference import Classifier
from pipeline.model.metadata import ModelMetadata
from pipeline.model.processors import available_processors
from pipeline.settings import Settings

SIDE = 224
CLASSES = tuple(f"class {number}" for number in range(10))
BATCHES = (16, 64)  # timm's and ours; the better one counts


def make_model(architecture: str, path: Path) -> None:
    """An exported network without training: speed does not depend on what its weights say."""
    from pipeline.model.export import export
    from pipeline.model.network import build_network, preprocessing_for
    from pipeline.recipe import ModelPolicy

    policy = ModelPolicy(architecture=architecture, image_size=SIDE)
    metadata = ModelMetadata(classes=CLASSES, preprocessing=preprocessing_for(policy), architecture=architecture)
    noise = np.random.default_rng(0).integers(0, 256, (4, SIDE, SIDE, 3), dtype=np.uint8)
    export(build_network(policy, len(CLASSES)), path, metadata=metadata, images=noise)


def quantise(source: Path, target: Path, pixels: np.ndarray) -> None:
    """The int8 variant of a model: weights and activations, calibrated on prepared images."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.batches = iter([{"image": pixels[start : start + 8]} for start in range(0, len(pixels), 8)])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.batches, None)

    ready = target.with_suffix(".ready.onnx")
    quant_pre_process(str(source), str(ready), skip_symbolic_shape=True)
    options = {"per_channel": True, "activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
    quantize_static(str(ready), str(target), Reader(), op_types_to_quantize=["Conv", "Gemm", "MatMul"], **options)
    model = onnx.load(target)
    onnx.helper.set_model_props(model, Classifier(source, 1).metadata.to_props())
    onnx.save(model, target)
    ready.unlink()


def _rate(count: int, work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return count / (time.perf_counter() - begun)


def decoding(data: Sequence[bytes], preprocessing: Preprocessing) -> float:
    """Files in memory → the network's input, on all cores."""
    cores = available_processors()
    with ThreadPoolExecutor(cores) as pool:
        return _rate(len(data), lambda: list(pool.map(lambda item: prepare(item, Limits(), preprocessing), data)))


def inference(path: Path, pixels: np.ndarray) -> dict[str, float]:
    """Prepared images in memory → answers, on all cores: one batch after the other, and one for each core at a time."""
    cores, found = available_processors(), {}
    for lanes in (1, cores):
        for batch in BATCHES:
            classifier = Classifier(path, cores, lanes)
            parts = [pixels[start : start + batch] for start in range(0, len(pixels), batch)]
            with ThreadPoolExecutor(lanes) as pool:
                list(pool.map(classifier.run, parts[:lanes]))  # warm
                found[f"{lanes} at once, {batch} images each"] = _rate(
                    len(pixels), lambda pool=pool, run=classifier.run, parts=parts: list(pool.map(run, parts))
                )
    return found


def timm_way(folder: Path, architecture: str, workers: int, batch: int) -> float:
    """timm's inference.py: dataset, transforms and loader of its own on local files, torch eager, top 3, warmed up."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:  # its threads and its memory are its own
        return pool.submit(_timm, str(folder), architecture, workers, batch).result()


def _timm(folder: str, architecture: str, workers: int, batch: int) -> float:
    import timm
    import torch
    from timm.data import create_dataset, create_loader, resolve_data_config

    torch.set_num_threads(available_processors())
    model = timm.create_model(architecture, num_classes=len(CLASSES)).eval()
    config = resolve_data_config({}, model=model)
    dataset = create_dataset("", root=folder, split="validation")
    loader = create_loader(dataset, batch_size=batch, use_prefetcher=False, num_workers=workers, **config)
    with torch.inference_mode():
        model(torch.zeros(batch, *config["input_size"]))

        def work() -> None:
            for images, _ in loader:
                model(images).softmax(-1).topk(3)[1].numpy()

        return _rate(len(dataset), work)


def plain_loop(settings: Settings, path: Path, prefix: str, seconds: float) -> float:
    """Get an object, PIL, ONNX Runtime on one image with its default threads, insert; for some seconds."""
    import onnxruntime as ort

    endpoint, access_key, secret_key = settings.require_store()
    client = boto3.client(
        "s3", endpoint_url=endpoint, aws_access_key_id=access_key, aws_secret_access_key=secret_key,
        region_name=settings.s3_region,
    )  # fmt: skip
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    connection = psycopg2.connect(settings.require_database())
    connection.autocommit = True
    done = 0
    with connection.cursor() as cursor:
        cursor.execute("create table if not exists plain (key text, label text, top_k jsonb)")
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=settings.image_bucket, Prefix=prefix)
        keys = [item["Key"] for page in pages for item in page["Contents"]]
        begun = time.perf_counter()
        for key in keys:
            data = client.get_object(Bucket=settings.image_bucket, Key=key)["Body"].read()
            image = Image.open(io.BytesIO(data)).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
            probabilities = session.run(["probabilities"], {"image": np.asarray(image)[None]})[0][0]
            best = [[CLASSES[int(row)], float(probabilities[row])] for row in np.argsort(-probabilities)[:3]]
            cursor.execute("insert into plain values (%s, %s, %s)", (key, best[0][0], json.dumps(best)))
            done += 1
            if time.perf_counter() - begun > seconds:
                break
        rate = done / (time.perf_counter() - begun)
        cursor.execute("drop table plain")
    connection.close()
    return rate


def cores() -> list[int]:
    """Numbers of the processors that this process may use."""
    return sorted(os.sched_getaffinity(0))
