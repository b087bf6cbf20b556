"""Every record is a row or a reject, whatever the format holds and however the file is cut."""

import csv
import datetime as dt
import decimal
import functools
import gzip
import importlib
import io
import itertools
import json
import pkgutil
import re
import tracemalloc
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

import curate.readers
from curate.corpus.errors import InputError, UnreadableFileError
from curate.readers.base import REASONS, RECORDS, InputFile, Reject, Slice
from curate.readers.discover import expand, group, open_stream
from curate.readers.registry import reader_for, reader_named, readers, suffix_of, suffixes

Rows = list[dict[str, Any]]


def file_of(data: bytes, path: str, key: str | None = None) -> InputFile:
    return InputFile("test:", path, len(data), "1", key)


def read_slices(
    slices: list[Slice], data: bytes, options: Mapping[str, Any] | None = None
) -> tuple[Rows, list[Reject]]:
    rows: Rows = []
    rejects: list[Reject] = []
    for part in slices:
        reader, compression = reader_for(part.file.path)
        assert compression is None
        for batch in reader.read(part, lambda: io.BytesIO(data), options or {}):
            assert batch.records.schema.equals(RECORDS)
            batch.records.validate(full=True)
            rows += batch.records.to_pylist()
            rejects += batch.rejects
    return rows, rejects


def read_bytes(data: bytes, path: str = "a.jsonl", **options: Any) -> tuple[Rows, list[Reject]]:
    return read_slices([Slice(file_of(data, path))], data, options)


def texts(rows: Rows) -> list[str]:
    return [row["text"] for row in rows]


# --- the contract ------------------------------------------------------------------------------


def reader_modules() -> Iterator[Any]:
    for info in pkgutil.iter_modules(curate.readers.__path__):
        module = importlib.import_module(f"curate.readers.{info.name}")
        if hasattr(module, "READER"):
            yield module


@pytest.mark.parametrize("module", list(reader_modules()), ids=lambda module: module.__name__)
def test_a_reader_has_a_name_a_docstring_and_well_formed_suffixes(module):
    reader = module.READER
    assert readers()[reader.name] is reader
    assert re.fullmatch(r"[a-z][a-z-]*", reader.name)
    assert len(module.__doc__.strip()) > 30
    assert all(re.fullmatch(r"\.[a-z0-9]+", suffix) for suffix in reader.suffixes)
    assert not (reader.suffixes and (reader.expand or reader.arrange))
    assert all(suffixes()[suffix] == reader.name for suffix in reader.suffixes)


@pytest.mark.parametrize("name", [n for n, r in readers().items() if r.suffixes])
def test_an_empty_file_is_never_silently_nothing(name):
    reader = reader_named(name)
    if reader.schema != "text":
        pytest.skip("has a schema of its own, and a test of its own")
    path = "a" + reader.suffixes[0]
    if not reader.streams:
        with pytest.raises(UnreadableFileError) as caught:
            read_bytes(b"", path)
        assert caught.value.reason == "empty"
    elif reader.one_document_per_file:
        rows, rejects = read_bytes(b"", path)
        assert (rows, [reject.reason for reject in rejects]) == ([], ["no_text"])
    else:
        rows, rejects = read_bytes(b"", path)
        ends_itself = name == "webdataset"  # an archive has an end marker: without it, it was cut
        assert (rows, [reject.reason for reject in rejects]) == ([], ["truncated"] * ends_itself)


@pytest.mark.parametrize("name", [n for n, r in readers().items() if r.suffixes])
def test_splitting_covers_the_file_without_gaps(name):
    reader = reader_named(name)
    for size in (0, 1, 99, 1000):
        parts = reader.split(InputFile("x", "a" + reader.suffixes[0], size, ""), 10)
        assert parts[0].start == 0
        assert parts[-1].stop == -1
        assert [part.stop for part in parts[:-1]] == [part.start for part in parts[1:]]


def test_the_reader_follows_from_the_suffix_and_the_format_wins():
    assert reader_for("A/B.JSONL.ZST")[0].name == "jsonl"
    assert reader_for("a.tsv.gz")[1] == ".gz"
    assert reader_for("a.weird.xz", "jsonl") == (reader_named("jsonl"), ".xz")
    assert suffix_of("a.b/c") == ("", None)


@pytest.mark.parametrize(
    ("path", "format_", "message"),
    [
        ("a.jsnl", None, "Did you mean '.jsonl'"),
        ("a", None, "no suffix"),
        ("a.jsonl", "jsnl", "Did you mean 'jsonl'"),
        ("a.parquet.gz", None, "decompress it first"),
    ],
)
def test_an_unknown_format_names_the_nearest(path, format_, message):
    with pytest.raises(InputError, match=re.escape(message)):
        reader_for(path, format_)


# --- jsonl -------------------------------------------------------------------------------------

good_lines = st.builds(
    lambda text, key: orjson.dumps({"id": key, "text": text, "n": 1}),
    st.text(min_size=1, max_size=20),
    st.integers(-5, 5) | st.text(max_size=3),
)
bad_lines = st.sampled_from(
    [
        b"{",
        b'{"text": "\xff"}',
        b'{"text": "\\ud800"}',
        b'{"text": "\\udc00\\ud800"}',
        b"[1]",
        b"12",
        b'{"text": null}',
        b'{"text": ""}',
        b'{"text": 3}',
        b'{"text": ["a"]}',
        b'{"id": 1}',
        b"{}",
        b"NaN",
        b'{"text": "a"} trailing',
        b'{"text": "a", "x": ' + b"[" * 600 + b"]" * 600 + b"}",
        b"[" * 5000,
        b"\x0b",
        b"\xef\xbb\xbf{}",
        b'{"text": "' + b"y" * 3000 + b'"}',
    ]
)
blank_lines = st.sampled_from([b"", b" ", b"\t", b"\r"])
documents = st.lists(good_lines | bad_lines | blank_lines, max_size=12).map(
    lambda rest: [b'{"text": "first"}', *rest]
)


@given(documents, st.booleans(), st.sampled_from([b"\n", b"\r\n"]))
def test_every_line_is_a_record_or_a_reject(lines, ends, newline):
    data = newline.join(lines) + (newline if ends else b"")
    rows, rejects = read_bytes(data, max_document_bytes=2500)
    kept = [line for line in lines if line.strip(b" \t\r\n")]
    assert len(rows) + len(rejects) == len(kept)
    positions = [row["position"] for row in rows] + [reject.position for reject in rejects]
    assert len(set(positions)) == len(kept)
    assert all(data[at:].startswith(tuple(kept)) for at in positions)
    assert {reject.reason for reject in rejects} <= REASONS
    assert all(len(reject.detail) <= 200 for reject in rejects)
    assert texts(rows) == [
        json.loads(data[row["position"] :].split(b"\n")[0])["text"] for row in rows
    ]


@given(documents, st.integers(1, 200), st.booleans())
def test_any_split_gives_the_same_records_in_the_same_order(lines, max_bytes, bom):
    data = (b"\xef\xbb\xbf" if bom else b"") + b"\n".join(lines)
    file = file_of(data, "a.jsonl")
    options = {"max_document_bytes": 2500}
    slices = reader_named("jsonl").split(file, max_bytes)
    assert read_slices(slices, data, options) == read_slices([Slice(file)], data, options)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"text": "\\ud800"}', "invalid_utf8"),
        (b'{"text": "\xc3"}', "invalid_utf8"),
        (b'{"text": "a"', "invalid_json"),
        (b'{"text": NaN}', "invalid_json"),
        (b"[]", "not_an_object"),
        (b'{"text": null}', "no_text"),
        (b'{"text": ""}', "no_text"),
        (b'{"other": "a"}', "no_text"),
        (b'{"text": 1.5}', "text_not_string"),
        (b'{"text": "' + b"a" * 100 + b'"}', "too_large"),
    ],
)
def test_a_bad_line_has_its_own_reason_and_spares_its_neighbours(line, reason):
    rows, rejects = read_bytes(
        b'{"text": "a"}\n' + line + b'\n{"text": " "}', max_document_bytes=60
    )
    assert texts(rows) == ["a", " "]
    assert [(reject.position, reject.reason) for reject in rejects] == [(14, reason)]


def test_a_line_of_exactly_the_limit_is_kept_with_any_line_end():
    line = b'{"text": "abc"}'
    for end in (b"\n", b"\r\n", b"", b"\r"):
        rows, _ = read_bytes(line + end, max_document_bytes=len(line))
        assert texts(rows) == ["abc"]
        _, rejects = read_bytes(line + end, max_document_bytes=len(line) - 1)
        assert [reject.reason for reject in rejects] == ["too_large"] or end == b""


def test_keys_urls_and_licences_become_text_and_the_rest_meta():
    line = {
        "id": 7,
        "text": "a",
        "url": "http://x",
        "license": ["MIT", "BSD"],
        "z": [1, {"b": None, "a": True}],
        "a": "e",
    }
    rows, _ = read_bytes(json.dumps(line).encode())
    assert rows == [
        {
            "text": "a",
            "key": "7",
            "url": "http://x",
            "license": '["MIT","BSD"]',
            "timestamp": None,
            "position": 0,
            "meta": '{"a":"e","z":[1,{"a":true,"b":null}]}',
        }
    ]


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("12345678901234567890123", "12345678901234567890123"),
        ("12345678901234567890124", "12345678901234567890124"),
        ("-1", "-1"),
        ("1.50", "1.5"),
        ('""', None),
        ("null", None),
        ("true", "true"),
        ('{"b": 1, "a": 2}', '{"a":2,"b":1}'),
    ],
)
def test_a_key_that_is_no_string_becomes_its_json_text(key, expected):
    rows, _ = read_bytes(f'{{"text": "a", "id": {key}}}'.encode())
    assert rows[0]["key"] == expected


def test_several_text_columns_are_joined_and_null_parts_skipped():
    lines = b"""{"q": "why", "n": 4, "a": null}\n{"q": null}\n{"q": ["x", "y"], "a": "z"}
{"q": {"x": 1}, "a": "z"}"""
    rows, rejects = read_bytes(lines, columns={"text": ["q", "n", "a"], "key": None})
    assert texts(rows) == ["why\n4", "x\ny\nz"]
    assert [reject.reason for reject in rejects] == ["no_text", "text_not_string"]


def test_a_column_no_record_has_is_an_error_that_names_the_columns_there_are():
    data = b'{"body": "a", "id": 1}\n' * 3
    with pytest.raises(InputError, match="no column 'text'; its columns are: body, id"):
        read_bytes(data)
    with pytest.raises(InputError, match="Did you mean 'body'"):
        read_bytes(data, columns={"text": "bodi"})
    with pytest.raises(InputError, match="no column 'ticket'"):
        read_bytes(data, columns={"text": "body", "key": "ticket"})
    rows, _ = read_bytes(b'{"body": null}\n{"text": "b"}\n')
    assert texts(rows) == ["b"]


@pytest.mark.parametrize(
    "columns",
    [{"txt": "a"}, {"text": None}, {"text": []}, {"key": 3}, {"text": [1]}, 5, {"meta": "x"}],
)
def test_a_malformed_columns_option_is_refused(columns):
    with pytest.raises(InputError):
        read_bytes(b'{"text": "a"}', columns=columns)


def test_one_huge_compressed_line_is_passed_through_in_bounded_memory(tmp_path):
    path = tmp_path / "bomb.jsonl.gz"
    with gzip.open(path, "wb", compresslevel=1) as stream:
        stream.write(b'{"text": "a"}\n{"text": "')
        for _ in range(50):
            stream.write(b"0" * (1 << 20))
        stream.write(b'"}\n{"text": "z"}\n')
    file = expand([str(path)])[0]
    opener = functools.partial(open_stream, file, ".gz", None)
    tracemalloc.start()
    try:
        batches = list(
            reader_named("jsonl").read(Slice(file), opener, {"max_document_bytes": 1 << 20})
        )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 12 << 20
    assert [text for batch in batches for text in batch.records["text"].to_pylist()] == ["a", "z"]
    assert [reject.reason for batch in batches for reject in batch.rejects] == ["too_large"]


# --- csv ---------------------------------------------------------------------------------------

cells = st.text(
    st.characters(codec="utf-8", exclude_characters="\0\r") | st.sampled_from('",\n'), max_size=8
)


@given(st.lists(st.tuples(cells, cells, cells), max_size=8), st.sampled_from(",;\t|"))
def test_csv_records_are_what_was_written(rows, delimiter):
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter)
    writer.writerow(["id", "text", "x"])
    writer.writerows(rows)
    got, rejects = read_bytes(out.getvalue().encode(), "a.csv", delimiter=delimiter)
    assert [(row["position"], row["text"], row["key"]) for row in got] == [
        (number, text, key or None) for number, (key, text, _) in enumerate(rows) if text
    ]
    assert [reject.position for reject in rejects] == [
        number for number, (_, text, _) in enumerate(rows) if not text
    ]
    assert [json.loads(row["meta"]) for row in got] == [{"x": x} for _, text, x in rows if text]


@given(st.lists(st.tuples(cells, cells), max_size=8), st.integers(1, 40))
def test_csv_records_above_the_limit_are_rejects_and_the_next_one_is_found(rows, limit):
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(["id", "text"])
    starts = []
    for row in rows:
        starts.append(out.tell())
        writer.writerow(row)
    starts.append(out.tell())
    data = out.getvalue()
    sizes = [len(data[a:b].encode().rstrip(b"\r\n")) for a, b in itertools.pairwise(starts)]
    limit = max(limit, 8)  # the header must fit
    got, rejects = read_bytes(data.encode(), "a.csv", max_document_bytes=limit)
    assert texts(got) == [
        text for (_, text), size in zip(rows, sizes, strict=True) if text and size <= limit
    ]
    assert len(got) + len(rejects) == len(rows)


@pytest.mark.parametrize(
    ("record", "reasons"),
    [
        (b"1\n", ["wrong_number_of_fields"]),
        (b"1,a,b\n", ["wrong_number_of_fields"]),
        (b"1,\xff\n", ["invalid_utf8"]),
        (b'1,"a"b\n', ["invalid_csv"]),
        (b"1,\n", ["no_text"]),
        (b'1,"' + b"x,\n" * 50 + b'""y"\n', ["too_large"]),
        (b"1," + b"x" * 200 + b"\n", ["too_large"]),
        (b"\n", []),
    ],
)
def test_a_bad_csv_record_has_its_reason_and_spares_its_neighbours(record, reasons):
    data = b"\xef\xbb\xbfid,text\r\n1,a\r\n" + record + b'2,"b\nc"\n'
    rows, rejects = read_bytes(data, "a.csv", max_document_bytes=100)
    assert texts(rows) == ["a", "b\nc"]
    assert [reject.reason for reject in rejects] == reasons
    assert sorted([row["position"] for row in rows] + [r.position for r in rejects]) == list(
        range(2 + len(reasons))
    )


def test_a_quote_that_never_closes_is_told_with_the_lines_it_swallowed():
    rows, rejects = read_bytes(b'text\na\n"b\nc\nd\n', "a.csv")
    assert texts(rows) == ["a"]
    assert "3 lines" in rejects[0].detail


def test_csv_needs_its_columns_and_asks_for_the_delimiter():
    assert read_bytes(b"id,text\n", "a.csv") == ([], [])
    with pytest.raises(InputError, match="its columns are: a, b"):
        read_bytes(b"a,b\n1,2\n", "a.csv")
    with pytest.raises(InputError, match="Is the delimiter ';'"):
        read_bytes(b"id;text\n1;2\n", "a.csv")
    with pytest.raises(InputError, match="two columns have the name 'text'"):
        read_bytes(b"text,text\n1,2\n", "a.csv")
    with pytest.raises(InputError, match="delimiter is"):
        read_bytes(b"text\n", "a.csv", delimiter="ab")
    rows, _ = read_bytes(b"id\ttext\n1\ta,b\n", "a.tsv")
    assert texts(rows) == ["a,b"]


# --- whole files -------------------------------------------------------------------------------


def test_a_text_file_is_one_record_with_its_path_as_key():
    data = b"\xef\xbb\xbfhello\n"
    for path, meta in (("a.txt", None), ("b.md", None), ("c.RS", '{"language":"rust"}')):
        rows, rejects = read_slices([Slice(file_of(data, path, key=path))], data)
        assert (rows[0]["text"], rows[0]["key"], rows[0]["meta"]) == ("hello\n", path, meta)
        assert not rejects
    for data, reason in ((b"a\xff", "invalid_utf8"), (b"", "no_text"), (b"x" * 99, "too_large")):
        _, rejects = read_bytes(data, "a.txt", max_document_bytes=9)
        assert [reject.reason for reject in rejects] == [reason]


# --- parquet and arrow -------------------------------------------------------------------------


def parquet_bytes(table: pa.Table, **options: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out, **options)
    return out.getvalue()


def ipc_bytes(table: pa.Table, stream: bool = False, max_chunksize: int = 3) -> bytes:
    out = io.BytesIO()
    new = pa.ipc.new_stream if stream else pa.ipc.new_file
    with new(out, table.schema) as writer:
        writer.write_table(table, max_chunksize=max_chunksize)
    return out.getvalue()


def as_files(table: pa.Table) -> list[tuple[str, bytes]]:
    return [
        ("a.parquet", parquet_bytes(table, row_group_size=3)),
        ("a.arrow", ipc_bytes(table)),
        ("a.feather", ipc_bytes(table, stream=True)),
    ]


values = st.none() | st.text(max_size=5)
records = st.lists(
    st.fixed_dictionaries(
        {
            "text": values,
            "id": st.none() | st.integers(-9, 9),
            "url": values,
            "x": st.none() | st.floats(width=64),
            "y": st.lists(st.integers(0, 3), max_size=2),
        }
    ),
    min_size=1,
    max_size=10,
)


@given(records)
def test_columns_and_lines_give_the_same_documents(rows):
    schema = pa.schema(
        [
            ("text", pa.string()),
            ("id", pa.int64()),
            ("url", pa.string()),
            ("x", pa.float64()),
            ("y", pa.list_(pa.int64())),
        ]
    )
    table = pa.Table.from_pylist(rows, schema)
    expected, refused = read_bytes(b"\n".join(orjson.dumps(row) for row in rows))
    for path, data in as_files(table):
        got, rejects = read_bytes(data, path)
        drop = [{**row, "position": 0} for row in got]
        assert drop == [{**row, "position": 0} for row in expected]
        assert [r.reason for r in rejects] == [r.reason for r in refused]
        assert sorted([r["position"] for r in got] + [r.position for r in rejects]) == list(
            range(len(rows))
        )


@given(st.integers(1, 2000))
def test_any_split_of_row_groups_gives_the_same_records(max_bytes):
    table = pa.table({"text": [f"text {i}" for i in range(20)], "id": list(range(20))})
    data = parquet_bytes(table, row_group_size=3)
    file = file_of(data, "a.parquet")
    rows, _ = read_slices(reader_named("parquet").split(file, max_bytes), data)
    assert [row["position"] for row in rows] == list(range(20))
    assert [row["key"] for row in rows] == [str(i) for i in range(20)]


def test_odd_columns_become_meta_that_json_can_hold():
    table = pa.table(
        {
            "text": pa.array(["a", "b"]).dictionary_encode(),
            "when": pa.array([1_600_000_000_123_456_789, None], pa.timestamp("ns", "UTC")),
            "day": pa.array([dt.date(2020, 1, 2), None]),
            "far": pa.array([2**40, 0], pa.timestamp("s")),
            "blob": pa.array([b"12345", None]),
            "in": pa.array([{"b": b"xy", "t": [dt.datetime(2020, 1, 1)]}, None]),
            "money": pa.array([decimal.Decimal("1.10"), None]),
            "nan": [float("nan"), float("inf")],
            "kind": pa.array(["k", None]).dictionary_encode(),
            "map": pa.array([[("k", 1)], []], pa.map_(pa.string(), pa.int64())),
        }
    )
    for path, data in as_files(table):
        rows, rejects = read_bytes(data, path)
        assert not rejects
        meta = json.loads(rows[0]["meta"])
        assert meta == {
            "when": "2020-09-13T12:26:40.123456+00:00",
            "day": "2020-01-02",
            "far": meta["far"],
            "blob": "<5 bytes>",
            "in": {"b": "<2 bytes>", "t": ["2020-01-01T00:00:00"]},
            "money": "1.10",
            "nan": None,
            "kind": "k",
            "map": [["k", 1]],
        }
        assert list(meta) == sorted(meta)
        assert rows[0]["key"] is None


def test_invalid_utf8_in_a_column_is_a_reject_for_its_row_only():
    raw = pa.array([b"fine", b"\xff\xfe", None, b"", b"also fine"])
    for column in ("text", "note"):
        broken = raw.view(pa.string())
        other = pa.array(["t"] * 5)
        table = pa.table({"text": other, "note": other}).set_column(
            ["text", "note"].index(column), column, broken
        )
        for path, data in as_files(table):
            rows, rejects = read_bytes(data, path)
            reasons = {reject.position: reject.reason for reject in rejects}
            if column == "text":
                assert reasons == {1: "invalid_utf8", 2: "no_text", 3: "no_text"}
            else:
                assert reasons == {1: "invalid_utf8"}
            assert len(rows) + len(rejects) == 5


def test_tables_that_cannot_be_mapped_are_refused_before_reading():
    for path, data in as_files(pa.table({"text": [1, 2], "body": ["a", "b"]})):
        with pytest.raises(InputError, match="is int64, not text; columns of text are: body"):
            read_bytes(data, path)
        with pytest.raises(InputError, match="no column 'bodi'.*Did you mean 'body'"):
            read_bytes(data, path, columns={"text": "bodi"})
        rows, _ = read_bytes(data, path, columns={"text": ["text", "body"], "meta": []})
        assert texts(rows) == ["1\na", "2\nb"]
        assert rows[0]["meta"] is None
    _, rejects = read_bytes(
        parquet_bytes(pa.table({"text": ["abc"]})), "a.pq", max_document_bytes=2
    )
    assert rejects[0].reason == "too_large"


def test_broken_tables_are_unreadable_and_say_why():
    table = pa.table({"text": [str(i) * 50 for i in range(50)]})
    data = parquet_bytes(table)
    for cut in (1, 4, len(data) // 2, len(data) - 1):
        with pytest.raises(UnreadableFileError) as caught:
            read_bytes(data[:cut], "a.parquet")
        assert caught.value.reason == "not_parquet"
    for stream in (False, True):
        data = ipc_bytes(table, stream=stream)
        for cut in (3, len(data) // 2):
            with pytest.raises(UnreadableFileError):
                read_bytes(data[:cut], "a.arrow")
    with pytest.raises(UnreadableFileError, match="version 1"):
        read_bytes(b"FEA1" + b"\0" * 20, "a.feather")


@given(st.data())
def test_a_flipped_byte_in_a_table_never_crashes(data):
    table = pa.table({"text": [str(i) for i in range(9)], "x": [{"a": i} for i in range(9)]})
    path, content = data.draw(st.sampled_from(as_files(table)))
    at = data.draw(st.integers(0, len(content) - 1))
    broken = (
        content[:at] + bytes([content[at] ^ data.draw(st.integers(1, 255))]) + content[at + 1 :]
    )
    try:
        rows, rejects = read_bytes(broken, path)
    except InputError:
        return
    assert len(rows) + len(rejects) <= 9


def test_a_stream_that_expands_without_measure_ends_with_a_line(tmp_path: Path) -> None:
    path = tmp_path / "blank.jsonl.zst"
    blank = zstandard.ZstdCompressor().compress(b"\n" * (1 << 22))
    path.write_bytes(blank * 80)  # 320 MiB in some 40 KB
    with open_stream(expand([str(path)])[0], ".zst") as stream:
        pieces = iter(lambda: stream.read(1 << 20), b"")
        with pytest.raises(UnreadableFileError, match="expands more than 500 times") as caught:
            sum(map(len, pieces))
    assert caught.value.reason == "expands_too_much"


# --- real data ---------------------------------------------------------------------------------


def test_the_shared_data_has_as_many_records_as_its_readme_says(shared_data: Path):
    readme = (shared_data / "README.md").read_text()
    counts = {
        path: int(number.replace(",", ""))
        for path, number in re.findall(r"^\| (text/\S+) \|[^|]*\| ([\d,]+) \|", readme, re.M)
    }
    # The README counts lines of the CSV files, and some queries have two; these are the sizes
    # that the authors of Banking77 publish.
    counts["text/support_banking77_train.csv.gz"] = 10_003
    counts["text/support_banking77_test.csv.gz"] = 3_080
    without_text = {"text/forum_stackexchange_coffee.xml.gz": 10}  # posts with an empty body
    lines = {"text/logs_apache_access.log.gz"}  # counted in `meta`, for a document is an hour
    checked = 0
    for path, count in counts.items():
        if suffix_of(path)[0] not in suffixes():
            continue
        files = expand([path], str(shared_data))
        reader, compression = reader_for(path)
        num = refused = 0
        for (part,) in group(files, reader, 1 << 20):
            opener = functools.partial(open_stream, part.file, compression, None)
            for batch in reader.read(part, opener, {}):
                assert {reject.reason for reject in batch.rejects} <= {"no_text"}
                refused += len(batch.rejects)
                metas = batch.records.column("meta").to_pylist()
                num += (
                    sum(json.loads(meta)["lines"] for meta in metas)
                    if path in lines
                    else batch.records.num_rows
                )
        assert refused == without_text.get(path, 0), path
        assert num + refused == count, path
        checked += 1
    assert checked >= 8
