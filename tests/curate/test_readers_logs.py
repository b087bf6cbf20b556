"""Logs: every line of a file is in exactly one document, whatever it says and however late."""

import functools
import io
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.corpus.errors import InputError, UnreadableFileError
from curate.readers.base import RECORDS, InputFile, Reject, Slice
from curate.readers.discover import open_stream
from curate.readers.log_sessions import pattern_of, sessions_of
from curate.readers.log_times import TIMES, as_iso, best_format
from curate.readers.registry import reader_for, reader_named

Rows = list[dict[str, Any]]


def read_bytes(
    data: bytes, path: str = "a.log", limit: int | None = None, **options: Any
) -> tuple[Rows, list[Reject]]:
    rows: Rows = []
    rejects: list[Reject] = []
    file = InputFile("test:", path, len(data), "1")
    settings = {"options": options, "max_document_bytes": limit}
    for batch in reader_for(path)[0].read(Slice(file), lambda: io.BytesIO(data), settings):
        assert batch.records.schema.equals(RECORDS)
        rows += batch.records.to_pylist()
        rejects += batch.rejects
    return rows, rejects


def meta_of(row: dict[str, Any]) -> dict[str, Any]:
    return json.loads(row["meta"])


def at(minute: int, text: str, day: int = 1) -> str:
    return f"2020-01-{day:02}T{minute // 60:02}:{minute % 60:02}:00Z {text}\n"


# --- times -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("format", "line", "time_"),
    [
        ("iso", "2020-01-02T03:04:05Z x", "2020-01-02T03:04:05Z"),
        ("iso", "2020-01-02 03:04:05,678 INFO x", "2020-01-02T03:04:05Z"),
        ("iso", "[2020-01-02 03:04:05+01:00] x", "2020-01-02T02:04:05Z"),
        ("iso", "INFO main 2020/01/02 03:04 x", "2020-01-02T03:04:00Z"),
        ("iso", "2020-02-31T03:04:05Z x", None),
        ("iso", "2020-01-02T25:04:05Z x", None),
        ("iso", "\tat line 2020-01-02T03:04:05Z", None),
        ("iso", "no time", None),
        ("iso", "9999-12-31T23:59:59-05:00 x", None),
        ("iso", "", None),
        ("apache", '1.2.3.4 - - [17/May/2015:10:05:03 +0000] "GET /"', "2015-05-17T10:05:03Z"),
        ("apache", "[Wed Oct 11 14:32:52.123456 2000] [error] x", "2000-10-11T14:32:52Z"),
        ("apache", "1.2.3.4 - - [17/Mai/2015:10:05:03 +0000]", None),
        ("syslog", "<34>1 2003-10-11T22:14:15.003Z host su - x", "2003-10-11T22:14:15Z"),
        ("syslog", "Oct 41 22:14:15 host su: x", None),
    ],
)
def test_the_time_of_a_line_is_read_as_it_states_it(format, line, time_):
    seconds = TIMES[format](line)
    assert (None if seconds is None else as_iso(seconds)) == time_


def test_a_time_without_a_year_orders_lines_but_is_no_timestamp():
    first, second = (TIMES["syslog"](f"Feb {day} 22:14:15 host su: x") for day in (28, 29))
    assert second - first == 86_400
    assert as_iso(first) is None


def test_the_format_is_the_one_that_most_lines_have():
    assert best_format(["Oct  1 22:14:15 h x", "2020-01-01 10:00 a", "Oct  1 22:14:15 h x"]) == (
        "syslog"
    )
    assert best_format(["a", ""]) is None


# --- groups ------------------------------------------------------------------------------------


def test_lines_of_an_hour_are_a_document_and_stack_traces_stay_with_their_error():
    data = at(0, "a") + at(59, "error") + "  at b\n\nCaused by: c\n" + at(60, "d") + at(185, "e")
    rows, rejects = read_bytes(data.encode())
    assert rejects == []
    assert [meta_of(row)["lines"] for row in rows] == [5, 1, 1]
    assert rows[0]["text"].endswith("error\n  at b\n\nCaused by: c")
    assert rows[0]["timestamp"] == "2020-01-01T00:00:00Z"
    assert meta_of(rows[0])["last_time"] == "2020-01-01T00:59:00Z"
    assert [row["position"] for row in rows] == [
        0,
        data.index(at(60, "d")),
        data.index(at(185, "e")),
    ]


def test_a_line_that_is_a_little_late_goes_to_its_window_and_a_very_late_one_opens_a_new():
    data = at(59, "a") + at(60, "b") + at(59, "late") + at(120, "c") + at(180, "d") + at(59, "old")
    rows, _ = read_bytes(data.encode())
    assert [meta_of(row)["lines"] for row in rows] == [1, 2, 1, 1, 1]
    assert sum(meta_of(row)["lines"] for row in rows) == 6
    together = next(row["text"] for row in rows if "late" in row["text"])
    assert together.count("\n") == 1
    assert [row["text"] for row in rows if "old" in row["text"]] == [at(59, "old").strip()]


def test_a_clock_that_jumps_does_not_tear_the_log_apart():
    lines = [at(n, "a") for n in range(50)]
    lines.insert(10, "2099-01-01T00:00:00Z wrong\n")
    rows, _ = read_bytes("".join(lines).encode())
    assert sorted(meta_of(row)["lines"] for row in rows) == [1, 50]


def test_a_session_is_a_document_until_it_pauses():
    lines = [
        at(0, "user=ann in"),
        at(1, "user=bob in"),
        at(2, "user=ann out"),
        at(3, "nobody"),
        at(200, "user=ann again"),
    ]
    rows, _ = read_bytes("".join(lines).encode(), group="session", session="user")
    found = [(meta_of(row).get("session"), meta_of(row)["lines"]) for row in rows]
    assert sorted(found, key=str) == [("ann", 1), ("ann", 2), ("bob", 1), (None, 1)]
    one, _ = read_bytes("".join(lines).encode(), group="session", session=r"=(\w)\w+ ")
    assert {meta_of(row).get("session") for row in one} == {"a", "b", None}


def test_without_groups_each_entry_is_a_document():
    rows, _ = read_bytes((at(0, "a") + " b\n" + at(1, "c")).encode(), group="none")
    assert [meta_of(row)["lines"] for row in rows] == [2, 1]
    rows, _ = read_bytes(b"a\nb\n", group="none")
    assert [row["text"] for row in rows] == ["a", "b"]
    rows, _ = read_bytes(b"a\nb\n")
    assert [row["text"] for row in rows] == ["a\nb"]


def test_a_long_group_is_several_documents():
    data = "".join(at(0, "x" * 90) for _ in range(100)).encode()
    rows, _ = read_bytes(data, limit=1000)
    assert all(len(row["text"]) <= 1000 for row in rows)
    assert [meta_of(row).get("part", 1) for row in rows] == list(range(1, len(rows) + 1))
    assert sum(meta_of(row)["lines"] for row in rows) == 100
    _, rejects = read_bytes(b"a" * 2000 + b"\nb\n", limit=1000)
    assert [(reject.position, reject.reason) for reject in rejects] == [(0, "too_large")]


def test_bytes_that_are_no_utf8_stay_and_are_counted():
    rows, _ = read_bytes(b"caf\xe9\r\n\xc3\xa9\n\x00")
    assert rows[0]["text"] == "caf\u00e9\n\u00e9\n\x00"
    assert meta_of(rows[0]) == {"lines": 3, "not_utf8_lines": 1}
    assert read_bytes(b"\n \n")[1][0].reason == "no_text"
    assert read_bytes(b"") == ([], [])


parts_of_log = st.sampled_from(
    [
        at(0, "a"),
        at(61, "user=x b"),
        at(500, "user=y c"),
        "2099-12-31T23:59:59Z d\n",
        "Oct  1 22:14:15 h e\n",
        '1.2.3.4 - - [17/May/2015:10:05:03 +0000] "GET /"\n',
        "  at f\n",
        "\n",
        "\u00e9\r\n",
        "x" * 300 + "\n",
    ]
)


@given(
    st.lists(parts_of_log, max_size=40),
    st.sampled_from(["time", "session", "none"]),
    st.integers(1, 4000),
    st.booleans(),
)
def test_the_lines_of_all_documents_are_the_lines_of_the_file(parts, group, window, ends):
    data = "".join(parts).encode().removesuffix(b"" if ends else b"\n")
    rows, rejects = read_bytes(data, group=group, session="user", window=window, limit=1 << 12)
    lines = data.count(b"\n") + (bool(data) and not data.endswith(b"\n"))
    blank = sum(int(r.detail.split()[0]) for r in rejects)
    assert sum(meta_of(row)["lines"] for row in rows) + blank == lines
    assert all(row["text"].count("\n") + 1 == meta_of(row)["lines"] for row in rows)
    positions = [row["position"] for row in rows]
    assert len(set(positions)) == len(positions)
    for row in rows:
        first = row["text"].split("\n")[0].encode()
        assert data[row["position"] :].startswith(first)


# --- options -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"window": 0}, "window"),
        ({"window": "1h"}, "window"),
        ({"group": "hour"}, "group"),
        ({"group": "session"}, "session"),
        ({"group": "session", "session": "(a"}, "RE2"),
        ({"group": "session", "session": r"(a)\1"}, "RE2"),
        ({"group": "session", "session": "(?=a)(b)"}, "RE2"),
        ({"group": "session", "session": "(a)(b)"}, "one group"),
        ({"group": "session", "session": "(" + "a" * 600 + ")"}, "500 characters"),
        ({"grouped": "time"}, "group"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused_in_one_line(options, told):
    with pytest.raises(InputError, match=told) as caught:
        read_bytes(at(0, "a").encode(), **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("session", "line", "found"),
    [
        ("host", "1.2.3.4 - x", "1.2.3.4"),
        ("id", "a id=7, b", "7"),
        ("id", '{"id": "x y"}', "x"),
        ("id", "void=7", None),
        (r"[(]\((\d+)[)]", "((12)", "12"),
        (r"(?:a|b)(?P<x>\d)", "b7", "7"),
        (r"a\d", "za1", "a1"),
        (r"(x*)", "y", None),
    ],
)
def test_a_session_is_a_field_or_what_an_expression_finds(session, line, found):
    assert sessions_of(pattern_of(session), [line]) == [found]
    assert sessions_of(pattern_of("host", "syslog"), ["Oct  1 22:14:15 h x:"]) == ["h"]


def test_an_expression_that_would_take_for_ever_elsewhere_takes_no_time():
    line = "a" * 50_000
    begin = time.process_time()
    read_bytes(line.encode(), group="session", session="(a+)+$|(?:a|aa)*b")
    assert time.process_time() - begin < 2


# --- whole files -------------------------------------------------------------------------------


def test_the_access_log_gives_all_its_lines(shared_data):
    path = shared_data / "text/logs_apache_access.log.gz"
    file = InputFile(str(path), path.name, path.stat().st_size, "1")
    reader, compression = reader_for(file.path)
    opener = functools.partial(open_stream, file, compression)
    for options in ({}, {"group": "session", "session": "host"}):
        rows = [
            row
            for batch in reader.read(Slice(file), opener, {"options": options})
            for row in batch.records.to_pylist()
            if not batch.rejects
        ]
        assert sum(meta_of(row)["lines"] for row in rows) == 10_000
        assert all(row["timestamp"].startswith("2015-05-") for row in rows)
        assert len(rows) == (84 if not options else 2568)


def test_a_file_that_was_cut_keeps_the_lines_before(tmp_path):
    import gzip

    lines = "".join(at(n % 1440, f"{n} {n * n}", 1 + n // 1440) for n in range(20_000)).encode()
    path = tmp_path / "a.log.gz"
    path.write_bytes(gzip.compress(lines)[:-2000])
    file = InputFile(str(path), "a.log.gz", 1, "1")
    rows = []

    def collect() -> None:
        opener = functools.partial(open_stream, file, ".gz")
        for batch in reader_named("log").read(Slice(file), opener, {}):
            rows.extend(batch.records.to_pylist())

    with pytest.raises(UnreadableFileError):
        collect()
    count = sum(meta_of(row)["lines"] for row in rows)
    assert 10_000 < count < 20_000
    assert lines.startswith(rows[0]["text"].encode())
