from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import CLASSES, Digits, Exported

from pipeline.errors import ModelUnreadable
from pipeline.model.inference import Classifier
from pipeline.model.metadata import ModelMetadata
from pipeline.model.processors import available_processors


@pytest.fixture(scope="module")
def classifier(exported: Exported) -> Classifier:
    return Classifier(exported.path, 1)


def test_it_classifies(classifier: Classifier, digits: Digits) -> None:
    outputs = classifier.run(digits.holdout.pixels)
    assert len(outputs) == 300
    assert outputs.probabilities.shape == (300, 10)
    assert outputs.embeddings.shape == (300, classifier.embedding_dim)
    assert outputs.probabilities.dtype == outputs.embeddings.dtype == np.float32
    assert np.allclose(outputs.probabilities.sum(1), 1, atol=1e-5)
    assert (outputs.probabilities.argmax(1) == digits.holdout.labels).mean() > 0.85
    assert classifier.classes == CLASSES


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_the_batch_size_does_not_matter(classifier: Classifier, digits: Digits, batch_size: int) -> None:
    pixels = digits.holdout.pixels[:30]
    one, other = classifier.run(pixels), classifier.run(pixels, batch_size)
    assert np.allclose(one.probabilities, other.probabilities, atol=1e-5)
    assert np.allclose(one.embeddings, other.embeddings, atol=1e-4)


def test_a_mapped_file_serves_as_well_as_memory(classifier: Classifier, digits: Digits, tmp_path: Path) -> None:
    np.save(tmp_path / "pixels.npy", digits.holdout.pixels)
    mapped = np.load(tmp_path / "pixels.npy", mmap_mode="r")
    done: list[int] = []
    outputs = classifier.run(mapped, 128, done.append)
    assert np.array_equal(outputs.probabilities, classifier.run(digits.holdout.pixels, 128).probabilities)
    assert done == [128, 256, 300]


def test_no_images_give_no_answers(classifier: Classifier) -> None:
    outputs = classifier.run(np.zeros((0, 32, 32, 3), np.uint8))
    assert outputs.probabilities.shape == (0, 10)
    assert outputs.embeddings.shape == (0, classifier.embedding_dim)


def test_other_arrays_are_refused(classifier: Classifier) -> None:
    for pixels in (np.zeros((2, 32, 32, 3)), np.zeros((2, 31, 32, 3), np.uint8), np.zeros((32, 32, 3), np.uint8)):
        with pytest.raises(ValueError, match="uint8"):
            classifier.run(pixels)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least one"):
        classifier.run(np.zeros((2, 32, 32, 3), np.uint8), 0)


def test_zero_threads_are_those_that_there_are(exported: Exported) -> None:
    assert Classifier(exported.path).threads == available_processors()


def test_it_needs_neither_torch_nor_airflow(exported: Exported) -> None:
    code = (
        "import sys, numpy; from pathlib import Path; from pipeline.model.inference import Classifier\n"
        "Classifier(Path(sys.argv[1]), 1).run(numpy.zeros((3, 32, 32, 3), numpy.uint8))\n"
        "heavy = {'torch', 'timm', 'lightning', 'pandas', 'sklearn', 'onnx', 'airflow'}\n"
        "print(sorted(heavy & {name.partition('.')[0] for name in sys.modules}))\n"
    )
    child = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(exported.path)], capture_output=True, text=True, check=True
    )
    assert (child.stdout, child.stderr) == ("[]\n", "")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelUnreadable, match=r"there is no ONNX file .*model\.onnx"):
        Classifier(tmp_path / "model.onnx")


def test_a_damaged_file_gives_one_clear_line(
    exported: Exported, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = exported.path.read_bytes()
    path = tmp_path / "model.onnx"
    for content in (b"", b"nonsense", whole[:1000], whole[: len(whole) // 2], whole[:-100]):
        path.write_bytes(content)
        with pytest.raises(ModelUnreadable, match="is not a usable model") as caught:
            Classifier(path, 1)
        assert "\n" not in str(caught.value)
        assert "tidemark retrain" in str(caught.value)
    assert capfd.readouterr() == ("", "")


def changed(exported: Exported, path: Path, props: dict[str, str] | None = None, without: str | None = None) -> Path:
    model = onnx.load(exported.path)
    if props is not None:
        kept = {item.key: item.value for item in model.metadata_props}
        del model.metadata_props[:]
        onnx.helper.set_model_props(model, {key: value for key, value in (kept | props).items() if value})
    if without is not None:
        kept_outputs = [item for item in model.graph.output if item.name != without]
        del model.graph.output[:]
        model.graph.output.extend(kept_outputs)
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    ("props", "reason"),
    [
        ({"tidemark": ""}, "does not say that Tidemark exported it"),
        ({"tidemark": '"99"'}, "does not say that Tidemark exported it"),
        ({"classes": ""}, "does not name the classes"),
        ({"classes": '["a", "a"]'}, "does not name the classes"),
        ({"classes": '["a", "b"]'}, "10 probabilities for 2 classes"),
        ({"preprocessing": "{"}, "how to prepare an image"),
        ({"preprocessing": '{"size": 32}'}, "size, crop_pct and interpolation"),
        ({"preprocessing": '{"size": 64, "crop_pct": 1.0, "interpolation": "bicubic"}'}, "its input is not `image`"),
    ],
)
def test_a_foreign_file_is_refused_with_the_reason(
    exported: Exported, tmp_path: Path, props: dict[str, str], reason: str
) -> None:
    with pytest.raises(ModelUnreadable, match=reason):
        Classifier(changed(exported, tmp_path / "model.onnx", props), 1)


@pytest.mark.parametrize("name", ["probabilities", "embedding"])
def test_a_graph_without_an_output_is_refused(exported: Exported, tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelUnreadable, match=f"no output `{name}`"):
        Classifier(changed(exported, tmp_path / "model.onnx", without=name), 1)


def test_properties_of_other_tools_are_kept_as_they_are(exported: Exported, tmp_path: Path) -> None:
    path = changed(exported, tmp_path / "model.onnx", {"revision": '"7"', "note": "by hand"})
    assert Classifier(path, 1).metadata.extra == {"seed": 0, "revision": "7", "note": "by hand"}


def test_answers_that_are_not_numbers_are_an_error(exported: Exported, tmp_path: Path) -> None:
    model = onnx.load(exported.path)
    for weights in model.graph.initializer:
        if weights.data_type == onnx.TensorProto.FLOAT:
            weights.CopyFrom(
                onnx.numpy_helper.from_array(np.full(tuple(weights.dims), np.nan, np.float32), weights.name)
            )
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(ModelUnreadable, match="not finite"):
        Classifier(tmp_path / "model.onnx", 1).run(np.zeros((2, 32, 32, 3), np.uint8))


def test_metadata_survives_its_properties(exported: Exported) -> None:
    metadata = Classifier(exported.path, 1).metadata
    assert ModelMetadata.from_props(metadata.to_props()) == metadata
    with pytest.raises(ValueError, match="cannot be called classes"):
        ModelMetadata(**{**_fields(metadata), "extra": {"classes": []}})


def _fields(metadata: ModelMetadata) -> dict[str, object]:
    return {name: getattr(metadata, name) for name in metadata.__slots__}
