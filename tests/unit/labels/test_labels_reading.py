from __future__ import annotations

import csv
import io
import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.labels.reading import read_labels
from pipeline.labels.rows import MAX_KEY_BYTES, Outcome, key_of_link
from pipeline.labels.sentences import sentence
from pipeline.labels.text import LINE_LIMIT
from pipeline.records import Claim, LabelProblem, Unlabelled

# -- helpers


def read(data: bytes | str, **options: Any) -> list[Outcome]:
    file = io.BytesIO(data.encode() if isinstance(data, str) else data)
    return list(read_labels(file, "images", **options))


def claims(data: bytes | str, **options: Any) -> list[tuple[int, str, str]]:
    outcomes = read(data, **options)
    assert all(isinstance(outcome, Claim) for outcome in outcomes), outcomes
    return [(outcome.line, outcome.target, outcome.label) for outcome in outcomes if isinstance(outcome, Claim)]


def words(outcome: Outcome) -> str:
    assert isinstance(outcome, LabelProblem), outcome
    return sentence(outcome.code, outcome.target, outcome.label, outcome.detail)


# -- tables


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_tables_as_spreadsheets_write_them(encoding: str, delimiter: str, end: str) -> None:
    rows = ["Note|Key|LABEL", f'"two{end}lines"|ä/1.png|Käfer', "|2.png| dog ", "||"]
    text = end.join(rows).replace("|", delimiter)
    assert claims(text.encode(encoding)) == [(2, "ä/1.png", "Käfer"), (4, "2.png", "dog")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("file,label\na.png,x\n", [("a.png", True)]),
        ("filename,label\nb/a.png,x\n", [("b/a.png", False)]),  # a path says more than a name
        ("file_name,key,label\na.png,k.png,x\na.png,,x\n", [("k.png", False), ("a.png", True)]),
        ("key,label\ns3://images/k.png,x\ns3://other/k.png,x\n", [("k.png", False), ("s3://other/k.png", False)]),
        ("image,choice\nk.png,x\n", [("k.png", True)]),
        ("sep=;\nkey;label\nk;x\n", [("k", False)]),
        ("\n;;\nkey;label\nk;x\n", [("k", False)]),
        ('"key","label"\n"a ""b"",c",x\n', [('a "b",c', False)]),
        ("key,label\n k ,x\n", [(" k ", False)]),  # a key may begin and end with a space
        ("key,label,\nk,x,\n", [("k", False)]),
    ],
)
def test_what_names_an_image(text: str, expected: list[tuple[str, bool]]) -> None:
    found = [outcome for outcome in read(text) if isinstance(outcome, Claim)]
    assert [(claim.target, claim.by_name) for claim in found] == expected
    assert {claim.label for claim in found} == {"x"}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is empty"),
        (b"\xef\xbb\xbf\n\n", "is empty"),
        (b"image,class\n1,2\n", "no column `label`; its columns are 'image', 'class'"),
        (b"name;kind\n1;2\n", "no column `key` (or `file`) and no column `label`; its columns are 'name', 'kind'"),
        (b"a.png,cat\nb.png,dog\n", "its columns are 'a.png', 'cat'"),  # no header at all
        (b"key,label,label\na,b,c\n", "the column `label` twice"),
        (b"PK\x03\x04\x14\x00", "is a workbook"),
        (b"\x1f\x8b\x08", "is compressed"),
        ("key,label\n".encode("utf-16-le"), "is no text"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", "is no text"),
        (b'"key,label\na,b\n', "no column"),
        (b"x" * (LINE_LIMIT + 5), "is no text"),
    ],
)
def test_a_file_that_is_no_table_of_labels_is_one_problem(data: bytes, says: str) -> None:
    (problem,) = read(data)
    assert isinstance(problem, LabelProblem)
    assert problem.code == "unreadable"
    assert says in (problem.detail or "")


def test_bad_rows_are_told_by_line_and_cost_no_good_ones() -> None:
    data = (
        b"key,label,note\n"
        b"a.png,cat,\xff\xfe\x00 in a column that nobody reads\n"
        b"b.png,c\xe4t,\n"  # Latin-1
        b"c\x00.png,cat,\n"
        b",cat,\n"
        b"e.png, ,\n"
        b"f,g.png,cat,\n"
        b"h.png\n"
        b'"i.png,cat,\n'
        b"j.png,cat,\n"
        b'"k.png"x,cat,\n'
        b'l.png,"two\nlines",\n' + b"m" * (MAX_KEY_BYTES + 1) + b",cat,\n"
        b"n.png," + b"x" * 201 + b",\n"
        b"o.png,cat,\n"
    )
    outcomes = read(data)
    assert [(c.line, c.target) for c in outcomes if isinstance(c, Claim)] == [
        (2, "a.png"), (10, "j.png"), (16, "o.png"),
    ]  # fmt: skip
    told = {outcome.line: words(outcome) for outcome in outcomes if isinstance(outcome, LabelProblem)}
    assert told == {
        3: "its label holds NUL or bytes that are no text",
        4: "its key holds NUL or bytes that are no text",
        5: "names no image: fill in `key` or `file`",
        6: "gives 'e.png' no label",
        7: "has 4 fields where the header names 3: a field that holds ',' needs quotes around it",
        8: "has 1 field where the header names 3",
        9: "a quote is opened and not closed",
        11: "is no row of a table (',' expected after '\"')",
        12: "the label of 'l.png' holds a line break or a tab",
        14: "its key is longer than 1024 bytes",
        15: "the label of 'n.png' is longer than 200 characters",
    }


def test_a_line_beyond_all_reason_is_one_problem() -> None:
    huge = "x" * (3 * LINE_LIMIT)
    outcomes = read(f'key,label\na,b\n{huge},c\nd,e\n"{"y,z" * LINE_LIMIT}\nf,g\n')
    assert [outcome.line for outcome in outcomes] == [2, 3, 4, 5, 6]
    assert [isinstance(outcome, Claim) for outcome in outcomes] == [True, False, True, False, True]


def test_a_quote_that_is_never_closed_swallows_nothing() -> None:
    rows = "".join(f"{number}.png,cat\n" for number in range(50_000))
    outcomes = read('key,label\n"a,b\n' + rows)
    assert isinstance(outcomes[0], LabelProblem)
    assert len([outcome for outcome in outcomes if isinstance(outcome, Claim)]) == 50_000


def test_a_row_left_open_is_a_problem_unless_it_may_be_open() -> None:
    assert words(read("key,label\na,\n")[0]) == "gives 'a' no label"
    assert read("key,label\na,\n", may_be_open=True) == [Unlabelled(line=2)]
    queue = "key,label,predicted,confidence,batch,link\na,,cat,0.5,1,http://x\n'=b,dog,cat,0.5,1,http://x\n"
    assert read(queue) == [
        Unlabelled(line=2), Claim(line=3, target="=b", by_name=False, label="dog")
    ]  # fmt: skip
    assert read("key,label\n'=b,dog\n") == [Claim(line=2, target="'=b", by_name=False, label="dog")]


# -- JSON


def test_json_lines() -> None:
    outcomes = read(
        '\ufeff{"key": "a", "label": 7, "annotator": "ann"}\n\n{"File": "b", "Label": "x"}\r\n'
        '{"key": "c", "label": 7.50}\n{"key": "d", "label": ["x"]}\n{"key": "e", "label": "\\ud83d\\ude00"}\n'
    )
    assert outcomes == [
        Claim(line=1, target="a", by_name=False, label="7", author="ann"),
        Claim(line=3, target="b", by_name=True, label="x"),
        Claim(line=4, target="c", by_name=False, label="7.50"),
        Claim(line=5, target="d", by_name=False, label="x"),
        Claim(line=6, target="e", by_name=False, label="😀"),
    ]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"key": "a"', "is not JSON"),
        ('{"key": "a", "label": NaN}', "NaN is no value"),
        ('{"key": "a", "label": "x", "label": "y"}', "has 'label' twice"),
        ('{"key": "a", "label": true}', "the label of 'a' is no text (True)"),
        ('{"key": "a", "label": {"x": "\\ud800"}}', "the label of 'a' is no text"),
        ('{"key": "a", "label": ["x", "y"]}', "several labels ('x', 'y')"),
        ('{"key": "a", "label": null}', "gives 'a' no label"),
        ('{"key": "a"}', "gives 'a' no label"),
        ('{"label": "x"}', "names no image"),
        ('{"key": 7.5e1000, "label": "\\u0000"}', "its label holds NUL"),
        ('{"key": "\\ud800", "label": "x"}', "its key holds NUL or bytes that are no text"),
        ("[1]", "is no JSON object"),
        ('"text"', "is no JSON object"),
        ("{} {}", "more than one JSON value"),
        ('{"a":' * 100_000, "is nested too deeply"),
        ("9" * 100_000, "is no JSON object"),
    ],
)
def test_a_line_of_json_that_is_none_costs_no_other(line: str, says: str) -> None:
    good = '{"key": "k", "label": "x"}'
    first, bad, last = read(f"{good}\n{line}\n{good}\n", expected="jsonl")
    assert (first.line, bad.line, last.line) == (1, 2, 3)
    assert isinstance(first, Claim)
    assert isinstance(last, Claim)
    assert says in words(bad)


def test_an_array_and_one_object_over_several_lines() -> None:
    assert claims('[\n{"key": "a", "label": 1},\n\n{"key": "b", "label": 2}]') == [(2, "a", "1"), (4, "b", "2")]
    assert claims('{\n  "key": "a",\n  "label": "x"\n}\n') == [(1, "a", "x")]
    assert read("[]") == []
    good, bad = read('[{"key": "a", "label": 1}, {"key": ')
    assert isinstance(good, Claim)
    assert "what follows cannot be read" in words(bad)


def task(*annotations: dict[str, Any], **data: Any) -> dict[str, Any]:
    return {"id": 3, "data": data, "annotations": list(annotations), "predictions": [annotation("guess")]}


def annotation(*choices: str, question: str = "label", **more: Any) -> dict[str, Any]:
    result = {"from_name": question, "to_name": "image", "type": "choices", "value": {"choices": list(choices)}}
    return {"result": [result], "completed_by": 4, **more}


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (task(annotation("x"), key="a"), [("a", "x")]),
        (task(annotation("x"), annotation("y"), key="a"), [("a", "x"), ("a", "y")]),
        (task(annotation("x", was_cancelled=True), annotation("y", skipped=True), key="a"), []),
        (task(annotation("x", question="choice"), image="http://h:9/images/a%20b.png?X=1"), [("a b.png", "x")]),
        (task({"result": []}, key="a"), []),
        (task({"result": [{"type": "rectanglelabels", "value": {}}, 7, {"type": "choices"}]}, key="a"), []),
        (task(key="a"), []),
        ({"data": {"key": "a"}, "completions": [annotation("x")]}, [("a", "x")]),
        ({"data": {"key": "a"}}, []),
        ({"image": "s3://images/k?#.png", "choice": "x", "annotation_id": 1}, [("k?#.png", "x")]),
        ({"key": "a", "annotation_id": None}, []),
    ],
)
def test_label_studios_items(item: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    for text in (json.dumps([item]), json.dumps([item], indent=2), json.dumps(item) + "\n", json.dumps(item, indent=1)):
        outcomes = read(text)
        assert [(c.target, c.label) for c in outcomes if isinstance(c, Claim)] == expected
        assert all(isinstance(outcome, Claim | Unlabelled) for outcome in outcomes)
        assert outcomes


@pytest.mark.parametrize(
    ("item", "says"),
    [
        (task(annotation("x", "y"), key="a"), "several labels ('x', 'y')"),
        (task({"result": annotation("x", question="p")["result"] + annotation("y", question="q")["result"]}, key="a"),
         "answers several questions"),
        (task(annotation("x"), image="/data/upload/1/a.png"), "names no image"),
        (task(annotation("x"), key=["a"]), "names no image"),
        ({"key": "a", "mood": "x", "annotation_id": 1}, "no answer is named `label`"),
    ],
)  # fmt: skip
def test_label_studios_items_that_say_no_label(item: dict[str, Any], says: str) -> None:
    (problem,) = read(json.dumps([item]))
    assert says in words(problem)


def test_a_link_leads_to_a_key_of_our_bucket_only() -> None:
    assert key_of_link("s3://images/a/b?c#d", "images") == "a/b?c#d"
    assert key_of_link("https://s3.example/images/a%2Fb%20c?X-Amz-Signature=1", "images") == "a/b c"
    for other in (
        "s3://other/a",
        "https://h/other/a",
        "https://h/images",
        "ftp://h/images/a",
        "",
        "x",
        "http://[/images/a",
    ):
        assert key_of_link(other, "images") is None


# -- whatever is in it

KEYS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=40).filter(
    lambda key: not key.startswith("s3://images/") and key.strip()
)
LABELS = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=20).filter(
    lambda label: not label.startswith(("[", '{"choices"'))
)


@given(st.lists(st.tuples(KEYS, LABELS), max_size=30), st.sampled_from(",;\t"), st.sampled_from(["\n", "\r\n", "\r"]))
def test_every_row_of_a_table_comes_back(rows: list[tuple[str, str]], delimiter: str, end: str) -> None:
    file = io.StringIO()
    writer = csv.writer(file, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerows([("key", "label"), *rows])
    for encoding in ("utf-8-sig", "utf-16"):
        assert [row[1:] for row in claims(file.getvalue().encode(encoding))] == rows


@given(st.lists(st.tuples(KEYS, LABELS), max_size=30), st.booleans())
def test_every_row_of_json_comes_back(rows: list[tuple[str, str]], ascii_only: bool) -> None:
    items = [{"key": key, "label": label} for key, label in rows]
    lines = "".join(json.dumps(item, ensure_ascii=ascii_only) + "\n" for item in items)
    assert [row[1:] for row in claims(lines, expected="jsonl")] == rows if rows else True
    assert [row[1:] for row in claims(json.dumps(items, ensure_ascii=ascii_only))] == rows


PIECES = [
    b"key", b"label", b"file", b",", b";", b"\t", b'"', b"'", b"\n", b"\r\n", b"\r", b"\x00", b"\xff", b"\xef\xbb\xbf",
    b"\xff\xfe", b"{", b"}", b"[", b"]", b":", b'"key":', b'"label":', b'"annotations":', b'"data":', b'"result":',
    b'"\\ud800"', b"1", b"true", b"null", b"NaN", b"=", "ü".encode(), b"\xe2\x80\xa8", b"x" * 50,
]  # fmt: skip
SCRAPS = st.lists(st.sampled_from(PIECES) | st.binary(max_size=4), max_size=60).map(b"".join)
START = st.sampled_from(
    [b"", b"key,label\n", b"file;label\r\n", b'{"key":"a","label":"b"}\n', b"[", b"\xff\xfek\x00e\x00"]
)


@settings(max_examples=400)
@given(START, SCRAPS, st.sampled_from([None, "csv", "jsonl"]), st.booleans())
def test_nothing_that_is_in_a_file_makes_it_raise(
    start: bytes, scraps: bytes, expected: Any, may_be_open: bool
) -> None:
    for outcome in read(start + scraps, expected=expected, may_be_open=may_be_open):
        assert outcome.line >= 1
        if isinstance(outcome, Claim):
            values = [outcome.target, outcome.label, outcome.author or "x"]
            assert all(values)
        else:
            values = []
        if isinstance(outcome, LabelProblem):
            values = [value for value in (outcome.target, outcome.label, outcome.detail) if value is not None]
            assert "\n" not in words(outcome)
        for value in values:  # PostgreSQL takes it
            assert "\x00" not in value
            value.encode()


@given(
    st.lists(st.text(st.characters(exclude_characters='\r\n"', exclude_categories=["Cs"]), max_size=12), max_size=20)
)
def test_every_row_has_one_outcome(rows: list[str]) -> None:
    """Without quotes a line is a row; rows without anything in them are none."""
    expected = [number for number, row in enumerate(rows, 2) if row.replace(",", "").strip()]
    assert [outcome.line for outcome in read("key,label\n" + "\n".join(rows))] == expected


def test_memory_does_not_grow_with_the_file() -> None:
    class Endless(io.RawIOBase):
        """A table of so many rows that nobody holds in memory."""

        def __init__(self, rows: int) -> None:
            self._rows, self._at = rows, 0

        def readable(self) -> bool:
            return True

        def seekable(self) -> bool:
            return True

        def seek(self, offset: int, whence: int = 0) -> int:
            self._at = 0
            return 0

        def readinto(self, buffer: Any) -> int:
            if self._at >= self._rows:
                return 0
            data = (b"" if self._at else b"key,label\n") + b"some/folder/image.png,cat\n" * 300
            self._at += 300
            buffer[: len(data)] = data
            return len(data)

    def peak(rows: int) -> int:
        tracemalloc.start()
        try:
            count = sum(1 for _ in read_labels(io.BufferedReader(Endless(rows), 1 << 14), "images"))  # type: ignore[arg-type]
            assert count == rows
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(300)
    assert peak(30_000) < peak(3_000) + (1 << 20)
