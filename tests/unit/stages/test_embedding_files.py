"""Files of embeddings: what numpy reads, in blocks, with no image twice."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import ArtefactDamaged
from pipeline.stages.embedding_files import EmbeddingSpool, Rows, read_rows
from pipeline.stages.embeddings import Embedded


def rows(ids: list[int]) -> Rows:
    numbers = np.array(ids, np.int64)
    columns = np.arange(3, dtype=np.float32)
    return numbers, (numbers[:, None] + columns[:2]).astype(np.float32), (numbers[:, None] * columns).astype(np.float32)


def test_parts_become_one_file_with_each_image_once(tmp_path: Path) -> None:
    with EmbeddingSpool() as spool:
        for ids in ([5, 9], [], [2, 9, 5, 7], [1]):
            spool.append(rows(ids))
        assert spool.image_ids == [1, 2, 5, 7, 9]
        buffer = io.BytesIO()
        spool.save(buffer)
    found = Embedded.from_bytes(buffer.getvalue(), "a file")
    for array, expected in zip(
        (found.image_ids, found.probabilities, found.embeddings), rows([5, 9, 2, 7, 1]), strict=True
    ):
        assert np.array_equal(array, expected)
        assert array.dtype == expected.dtype
    path = tmp_path / "file.npz"
    path.write_bytes(buffer.getvalue())
    blocks = list(read_rows(path, "a file", 2))
    assert [len(block[0]) for block in blocks] == [2, 2, 1]
    assert np.array_equal(np.concatenate([block[2] for block in blocks]), found.embeddings)
    (ids,) = zip(*read_rows(path, "a file", 100, ("image_ids",)), strict=True)
    assert np.array_equal(ids[0], found.image_ids)


def test_what_the_check_keeps_is_read_likewise(tmp_path: Path) -> None:
    path = tmp_path / "file.npz"
    path.write_bytes(Embedded(*rows([3, 4, 8]), {}).to_bytes())
    ((ids, probabilities),) = read_rows(path, "a file", 10, ("image_ids", "probabilities"))
    assert ids.tolist() == [3, 4, 8]
    assert np.array_equal(probabilities, rows([3, 4, 8])[1])


@pytest.mark.parametrize("content", [b"", b"no archive", Embedded(*rows([1, 2]), {}).to_bytes()[:300]])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file.npz"
    path.write_bytes(content)
    with pytest.raises(ArtefactDamaged, match="embeddings/a is damaged"):
        list(read_rows(path, "embeddings/a", 10))
