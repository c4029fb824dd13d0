from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pipeline.errors import ConfigurationError
from pipeline.images.preprocess import Preprocessing
from pipeline.model.network import Deployable, build_network, preprocessing_for
from pipeline.recipe import ModelPolicy


def policy(weights: str | Path = "none", architecture: str = "test_resnet", size: int = 32) -> ModelPolicy:
    return ModelPolicy(architecture=architecture, weights=str(weights), image_size=size)


def backbone(classes: int, seed: int = 1) -> torch.nn.Module:
    torch.manual_seed(seed)
    return build_network(policy(), classes).backbone


@pytest.mark.parametrize("architecture", ["test_resnet", "test_efficientnet"])
def test_it_turns_pixels_into_probabilities_and_embeddings(architecture: str) -> None:
    network = build_network(policy(architecture=architecture), 7).eval()
    pixels = torch.randint(0, 256, (5, 32, 32, 3), dtype=torch.uint8)
    with torch.inference_mode():
        probabilities, embedding = network(pixels)
        logits = network.logits(pixels)
    assert probabilities.shape == (5, 7)
    assert torch.allclose(probabilities.sum(1), torch.ones(5))
    assert torch.allclose(probabilities, logits.softmax(1), atol=1e-6)
    assert embedding.shape == (5, network.backbone.head_hidden_size)
    assert probabilities.dtype == embedding.dtype == torch.float32


def test_normalisation_is_the_architectures_own() -> None:
    network = build_network(policy(), 2)
    plain = torch.nn.Module()
    plain.forward_features = lambda images: images  # type: ignore[assignment]
    seen = Deployable(plain, (0.5, 0.25, 0.0), (0.5, 0.25, 1.0)).features(torch.full((1, 2, 2, 3), 255.0))
    assert seen[0, :, 0, 0].tolist() == [1.0, 3.0, 1.0]
    assert network.mean.flatten().tolist() == [127.5] * 3  # timm's test_resnet: mean 0.5


def test_the_preprocessing_follows_recipe_and_architecture() -> None:
    assert preprocessing_for(policy(size=48)) == Preprocessing(48, 1.0, "bilinear", reduced=True)
    assert preprocessing_for(policy(architecture="resnet18")).interpolation == "bicubic"


@pytest.mark.parametrize(
    ("architecture", "hint"),
    [
        ("resnet17", "resnet1"),
        ("eficientnet_b0", "efficientnet_b0"),
        ("???", "name one"),
        ("hf-hub:timm/resnet18", "timm has no model"),
        ("local-dir:/etc", "timm has no model"),
        ("resnet18.nobody", "no such weights, but resnet18.a1_in1k"),
    ],
)
def test_an_unknown_architecture_is_named_with_its_like(architecture: str, hint: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        build_network(policy(architecture=architecture), 2)
    assert hint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_architecture_that_cannot_take_the_size_says_so() -> None:
    with pytest.raises(ConfigurationError, match="cannot take images of 16 × 16 pixels"):
        build_network(policy(architecture="inception_v3", size=16), 2)


def test_a_fixed_size_network_is_made_for_the_recipes_size() -> None:
    with torch.inference_mode():
        probabilities, embedding = build_network(policy(architecture="test_vit", size=48), 3).eval()(
            torch.zeros(2, 48, 48, 3, dtype=torch.uint8)
        )
    assert probabilities.shape == (2, 3)
    assert embedding.ndim == 2


@pytest.mark.parametrize("kind", ["safetensors", "pth", "training checkpoint"])
def test_local_weights_are_loaded(tmp_path: Path, kind: str) -> None:
    source = backbone(5)
    if kind == "safetensors":
        path = tmp_path / "weights.safetensors"
        save_file(source.state_dict(), path)
    else:
        path = tmp_path / "weights.pth"
        state = source.state_dict()
        torch.save(state if kind == "pth" else {"state_dict": {f"module.{k}": v for k, v in state.items()}}, path)
    loaded = build_network(policy(path), 5).backbone.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in source.state_dict().items())


def test_a_head_for_another_number_of_classes_is_dropped(tmp_path: Path) -> None:
    source = backbone(5).state_dict()
    save_file(source, tmp_path / "weights.safetensors")
    loaded = build_network(policy(tmp_path / "weights.safetensors"), 3).backbone.state_dict()
    assert loaded["fc.weight"].shape[0] == 3
    assert all(torch.equal(loaded[key], value) for key, value in source.items() if not key.startswith("fc."))


def test_weights_without_a_head_are_enough(tmp_path: Path) -> None:
    source = {key: value for key, value in backbone(5).state_dict().items() if not key.startswith("fc.")}
    save_file(source, tmp_path / "weights.safetensors")
    network = build_network(policy(tmp_path / "weights.safetensors"), 5)
    loaded = network.backbone.state_dict()
    # A fresh head has no opinion yet.
    assert network.eval()(torch.randint(0, 256, (2, 32, 32, 3)))[0].unique().tolist() == pytest.approx([0.2])
    assert torch.equal(loaded["conv1.0.weight"], source["conv1.0.weight"])


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    save_file(backbone(5).state_dict(), tmp_path / "weights.safetensors")
    with pytest.raises(ConfigurationError, match=r"is not of architecture resnet18 \(\d+ tensors missing"):
        build_network(policy(tmp_path / "weights.safetensors", "resnet18"), 5)


def test_a_missing_file_of_weights_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"there is no file .*nothing\.pth"):
        build_network(policy(tmp_path / "nothing.pth"), 2)


@pytest.mark.parametrize("weights", ["imagnet", "weights.ckpt", "Champion"])
def test_other_words_for_weights_are_refused(weights: str) -> None:
    with pytest.raises(ConfigurationError, match="`none`, `imagenet`, `champion` or a"):
        build_network(policy(weights), 2)


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (os.environ["TIDEMARK_TEST_BOMB"],)


def test_a_checkpoint_that_carries_code_is_refused_unexecuted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMARK_TEST_BOMB", str(tmp_path / "exploded"))
    torch.save({"state_dict": Bomb()}, tmp_path / "weights.pth")
    with pytest.raises(ConfigurationError, match="does not read as plain tensors") as caught:
        build_network(policy(tmp_path / "weights.pth"), 2)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
@pytest.mark.parametrize("content", [b"", b"nonsense", b"\xff" * 64])
def test_a_damaged_file_of_weights_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigurationError, match="does not read as plain tensors"):
        build_network(policy(tmp_path / name), 2)


def test_something_else_than_a_state_dict_is_refused(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "lr": 0.1}, tmp_path / "weights.pth")
    with pytest.raises(ConfigurationError, match="holds more than tensors"):
        build_network(policy(tmp_path / "weights.pth"), 2)


OFFLINE = """
import sys, torch, warnings
from pathlib import Path
from safetensors.torch import save_file
from pipeline.errors import TrainingFailed
from pipeline.model.network import build_network
from pipeline.recipe import ModelPolicy

policy = ModelPolicy(architecture="test_resnet", weights="imagenet", image_size=32)
try:
    build_network(policy, 10)
except TrainingFailed as error:
    print(error)
# What an earlier download would have left.
torch.manual_seed(3)
weights = build_network(policy.model_copy(update={"weights": "none"}), 1000).backbone.state_dict()
repository = Path(sys.argv[1]) / "models--timm--test_resnet.r160_in1k"
(repository / "refs").mkdir(parents=True)
(repository / "refs" / "main").write_text("0" * 40)
(repository / "snapshots" / ("0" * 40)).mkdir(parents=True)
save_file(weights, repository / "snapshots" / ("0" * 40) / "model.safetensors")
loaded = build_network(policy, 10).backbone.state_dict()
print(torch.equal(loaded["conv1.0.weight"], weights["conv1.0.weight"]), tuple(loaded["fc.weight"].shape))
"""


def test_offline_imagenet_weights_come_from_the_cache_or_the_error_names_the_local_option(tmp_path: Path) -> None:
    hub = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "0"}
    child = subprocess.run(
        [sys.executable, "-c", OFFLINE, str(tmp_path)],
        env={**os.environ, **hub, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    failure, loaded = child.stdout.splitlines()
    assert failure.startswith("the ImageNet weights of test_resnet cannot be downloaded (ConnectionError): set model.")
    assert "local .safetensors or .pth file" in failure
    assert loaded.startswith("True (10, ")
