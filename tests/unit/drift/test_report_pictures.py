"""Where the report's pictures put what they are given."""

from __future__ import annotations

import re
import sys
import types
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from drift.report import CheckReport, ClassShare, Estimate, PastCheck, Sample
from drift.report.pictures import BOX, accuracies, accuracy, bars, histogram, measures, p_values, scatter
from drift.report.pictures.plane import POINTS
from tests.sample_reports import WHEN, clouds, first, full, measure


def past(p_value: float | None, kind: Any = "clean", day: int = 0, **other: Any) -> PastCheck:
    when = WHEN + timedelta(days=day)
    return PastCheck(check=f"b{day}", when=when, p_value=p_value, kind=kind, **{"alpha": 0.01, **other})


def points(words: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in (pair.split(",") for pair in words.split())]


def dots(path: str) -> np.ndarray:
    return np.array([[float(value) for value in dot.split()] for dot in re.findall(r"M([\d. -]+)h0", path)])


class TestChance:
    def test_bars_stand_in_proportion_to_what_chance_gave(self) -> None:
        result = full("mmd").result
        assert result is not None
        picture = histogram(result)
        assert picture is not None
        heights = np.array([tall for _, _, _, tall in picture.bars])
        counts = np.histogram(result.null, 40, (result.null.min(), max(result.null.max(), result.threshold)))[0]
        counts = counts[counts > 0]
        assert heights[counts.argmax()] == pytest.approx(BOX.room)
        large = heights > 2
        np.testing.assert_allclose(heights[large] / BOX.room, (counts / counts.max())[large])
        assert all(y + tall == pytest.approx(BOX.floor) for _, y, _, tall in picture.bars)

    def test_the_observed_statistic_is_right_of_the_threshold_if_and_only_if_it_is_drift(self) -> None:
        for shift in (0.0, 0.5, 30.0):
            result = full("mmd", shift).result
            picture = histogram(result)
            assert result is not None
            assert picture is not None
            assert (picture.observed > picture.threshold) == result.is_drift

    def test_a_statistic_that_never_changes_has_a_picture_too(self) -> None:
        result = full("mmd").result
        assert result is not None
        same = replace(result, null=np.zeros(199), statistic=0.0, threshold=0.0)
        assert histogram(same) is not None
        assert histogram(replace(result, null=np.empty(0))) is None


class TestPlane:
    def test_it_is_the_plane_of_the_principal_components(self) -> None:
        from sklearn.decomposition import PCA

        reference, current = clouds(2.0, (200, 100), 30)
        picture = scatter(reference, current)
        assert picture is not None
        assert picture.method == "PCA"
        both = np.concatenate([reference, current]).astype(np.float64)
        known = PCA(2, svd_solver="full").fit(both)
        assert picture.explained == pytest.approx(known.explained_variance_ratio_.sum(), rel=1e-6)
        drawn = np.concatenate([dots(picture.reference), dots(picture.current)])
        plane = known.transform(both)
        for axis in (0, 1):
            assert abs(np.corrcoef(drawn[:, axis], plane[:, axis])[0, 1]) > 0.99

    @pytest.mark.parametrize("rows", [(40, 30), (400, 300)])
    def test_more_dimensions_than_images_and_fewer_give_the_same_picture(self, rows: tuple[int, int]) -> None:
        reference, current = clouds(1.0, rows, 60)
        wide = [np.pad(side, ((0, 0), (0, 700))) for side in (reference, current)]
        narrow, wider = scatter(reference, current), scatter(*wide)
        assert narrow is not None
        assert wider is not None
        assert narrow.explained == pytest.approx(wider.explained, rel=1e-5)
        np.testing.assert_allclose(dots(narrow.reference), dots(wider.reference), atol=1)

    def test_large_sets_are_thinned_but_the_gallery_is_always_there(self) -> None:
        reference, current = clouds(1.0, (3000, 5000))
        samples = [Sample(key=f"k{row}", thumbnail=b"", label="a", confidence=0.5, row=row) for row in (4321, 7, 1)]
        samples.append(Sample(key="stray", thumbnail=b"", label="a", confidence=0.5, row=5000))
        picture = scatter(reference, current, samples)
        assert picture is not None
        assert picture.shown[0] == POINTS
        assert POINTS <= picture.shown[1] <= POINTS + 3
        assert [ring.number for ring in picture.rings] == [1, 2, 3]
        assert picture.rings[0].title == "1: a, k4321"
        drawn = dots(picture.current)
        for ring in picture.rings:
            assert np.abs(drawn - (ring.x, ring.y)).max(axis=1).min() <= 0.5

    def test_one_far_image_does_not_squeeze_the_others(self) -> None:
        reference, current = clouds(0.0, (400, 300))
        current[0] += 1e4
        picture = scatter(reference, current)
        assert picture is not None
        assert np.ptp(dots(picture.reference), axis=0).max() > BOX.height / 2
        drawn = np.concatenate([dots(picture.reference), dots(picture.current)])
        assert (drawn >= 0).all()
        assert (drawn <= (BOX.width, BOX.height)).all()

    def test_umap_is_taken_where_it_is_installed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """UMAP is no dependency; a module of its name shows that it is asked, and what happens when it fails."""

        class Umap:
            def __init__(self, **options: Any) -> None:
                assert options == {"n_components": 2, "random_state": 0, "n_jobs": 1}

            def fit_transform(self, points: np.ndarray) -> np.ndarray:
                if points.shape[1] == 13:
                    raise ValueError("too few neighbours")
                return points[:, :2]

        monkeypatch.setitem(sys.modules, "umap", types.SimpleNamespace(UMAP=Umap))
        picture = scatter(*clouds(1.0))
        assert picture is not None
        assert (picture.method, picture.explained) == ("UMAP", None)
        picture = scatter(*clouds(1.0, dimensions=13))
        assert picture is not None
        assert picture.method == "PCA"


class TestPast:
    def test_the_more_unusual_the_higher_and_drift_lies_in_the_zone(self) -> None:
        checks = [past(0.5), past(0.02, day=1), past(None, "pending", 2, alpha=None), past(0.001, "alarm", 3)]
        picture = p_values(checks)
        assert picture is not None
        clean, watched, waiting, alarm = picture.dots
        assert clean.x < watched.x < waiting.x < alarm.x
        assert clean.y > watched.y > alarm.y
        assert waiting.y == BOX.floor
        level = points(picture.level)
        assert len({y for _, y in level}) == 1
        assert alarm.y < level[0][1] < watched.y
        assert len(points(picture.line)) == 3
        assert picture.dates == ("2026-11-21", "2026-11-24")
        assert [tick.label for tick in picture.ticks] == ["1", "0.1", "0.01", "0.001"]

    def test_small_p_values_are_written_in_decimals(self) -> None:
        picture = p_values([past(0.5, alpha=0.0001), past(0.000023, "alarm", 1, alpha=0.0001)])
        assert picture is not None
        assert [tick.label for tick in picture.ticks][-1] == "0.0001"
        assert picture.dots[1].title.endswith("alarm, p = 0.000023")
        picture = p_values([past(0.5), past(1e-80, "alarm", 1)])
        assert picture is not None
        assert [tick.label for tick in picture.ticks][-2:] == ["0.00001", "0.000001"]
        assert picture.dots[1].title.endswith("alarm, p < 0.000001")

    def test_a_level_that_changed_is_drawn_as_steps(self) -> None:
        checks = [past(0.5, alpha=0.05), past(0.5, day=1, alpha=0.05), past(0.5, day=2, alpha=0.001)]
        picture = p_values(checks)
        assert picture is not None
        level = points(picture.level)
        assert level[0][1] > level[-1][1]
        assert picture.dots[1].x < level[1][0] < picture.dots[2].x

    def test_p_values_of_nought_are_drawn_inside(self) -> None:
        picture = p_values([past(0.0), past(1.0, day=1), past(1e-300, day=2)])
        assert picture is not None
        assert all(BOX.top <= dot.y <= BOX.floor for dot in picture.dots)

    def test_one_check_is_no_history(self) -> None:
        assert p_values([past(0.5), past(None, "pending", 1)]) is None
        assert p_values([]) is None

    def test_accuracies_are_drawn_where_they_are_known(self) -> None:
        checks = [past(0.5, expected=0.9), past(0.5, day=1, measured=0.7), past(0.5, day=2, expected=0.8, measured=0.6)]
        picture = accuracies(checks, Estimate(value=0.95))
        assert picture is not None
        assert [dot.x for dot in picture.expected] == [picture.expected[0].x, picture.measured[1].x]
        assert picture.baseline is not None
        assert picture.baseline < picture.expected[0].y < picture.expected[1].y < picture.measured[1].y <= BOX.floor
        assert "70% measured" in picture.measured[0].title
        assert accuracies([past(0.5), past(0.4, expected=0.9)], None) is None


class TestAccuracy:
    def report(self, **changes: Any) -> CheckReport:
        return replace(first(), model_version=1, **changes)

    def test_accuracies_share_one_axis_with_the_limit(self) -> None:
        picture = accuracy(
            self.report(
                baseline=Estimate(value=0.95),
                expected=Estimate(value=0.9, low=0.85, high=0.96),
                measured=Estimate(value=0.6, images=1),
                min_accuracy_drop=0.2,
            )
        )
        assert picture is not None
        reference, expected, measured = picture.rows
        assert measured.at < picture.limit < expected.at < reference.at  # type: ignore[operator]
        assert expected.low is not None
        assert expected.high is not None
        assert expected.low < expected.at < expected.high
        assert measured.words == "measured on 1 label"
        assert picture.ticks[-1].label == "100%"

    @pytest.mark.parametrize("value", [0.0, 1.0])
    def test_extremes_stay_inside(self, value: float) -> None:
        picture = accuracy(self.report(expected=Estimate(value=value, low=value, high=value)))
        assert picture is not None
        assert 0 <= picture.rows[0].at <= BOX.width

    def test_of_the_reference_alone_there_is_no_picture(self) -> None:
        assert accuracy(self.report(baseline=Estimate(value=0.9))) is None


class TestClassesAndMeasures:
    def test_a_class_that_drifted_is_shown_before_those_whose_share_changed(self) -> None:
        classes = [ClassShare(label=str(k), reference=0.5, current=0.5 + k / 1000, is_drift=k == 0) for k in range(100)]
        picture = bars(classes)
        assert picture is not None
        assert [row.label for row in picture.rows] == ["0", *(str(k) for k in range(71, 100))]
        assert picture.left_out == 70
        assert picture.others == "70 others are left out"

    def test_the_largest_changes_are_shown_however_many_classes_drifted(self) -> None:
        """A new class has no reference images to be tested with: it cannot drift, and is what somebody should see."""
        drifted = [ClassShare(label=str(k), reference=0.01, current=0.02 + k / 1e4, is_drift=True) for k in range(35)]
        picture = bars([ClassShare(label="new", reference=0.0, current=0.5), *drifted])
        assert picture is not None
        assert [row.label for row in picture.rows] == ["new", *(str(k) for k in range(6, 35))]
        assert (picture.left_out, picture.others) == (6, "6 others are left out, all of them drifted")

    @pytest.mark.parametrize(
        ("drifted", "classes", "said"),
        [
            (0, 30, ""),
            (0, 31, "1 other is left out"),
            (31, 31, "1 other is left out, which drifted"),
            (21, 32, "2 others are left out, 1 of them drifted"),
            (22, 32, "2 others are left out, both of them drifted"),
            (0, 1031, "1,001 others are left out"),
        ],
    )
    def test_what_is_left_out_is_counted(self, drifted: int, classes: int, said: str) -> None:
        """Those that drifted changed least."""
        picture = bars(
            [ClassShare(label=str(k), reference=0.0, current=k / 2e3, is_drift=k < drifted) for k in range(classes)]
        )
        assert picture is not None
        assert picture.others == said

    def test_outlines_have_the_height_of_their_shares(self) -> None:
        (picture,) = measures([measure("brightness", True)])
        tops = [float(y) for y in re.findall(r"V([\d.]+)H", picture.reference)]
        heights = [62 - y for y in tops]
        assert heights == pytest.approx([58 * share / 0.5 for share in (0.2, 0.5, 0.3, 0.0)], abs=0.06)
        assert picture.reference.endswith("Z")
        assert (picture.then, picture.now) == ("0.41", "0.62")

    @pytest.mark.parametrize(
        ("column", "value", "words"),
        [
            ("bytes", 3190.0, "3.19 kB"),
            ("bytes", 12_300_000.0, "12.3 MB"),
            ("bytes", 512.0, "512 B"),
            ("width", 128.0, "128 px"),
            ("entropy", 7.251, "7.25 bits"),
            ("sharpness", 0.0000272, "0.000027"),
            ("sharpness", 0.0, "0"),
            ("colourfulness", 136.4, "136"),
        ],
    )
    def test_values_are_written_for_people(self, column: str, value: float, words: str) -> None:
        (picture,) = measures([replace(measure(column, False), reference=value)])
        assert picture.then == words
