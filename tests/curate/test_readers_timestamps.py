"""A time that the source states becomes one form; what cannot be read as a time stays in meta."""

import datetime as dt
import io
import json
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.corpus.errors import InputError
from curate.readers.base import InputFile, Option, Slice, settings_of
from curate.readers.columns import as_timestamp
from curate.readers.registry import reader_named

TIMES = {
    "2020-01-02T03:04:05Z": "2020-01-02T03:04:05Z",
    "2020-01-02 03:04:05.999+05:30": "2020-01-01T21:34:05Z",
    "2020-01-02": "2020-01-02T00:00:00Z",
    "Thu, 02 Jan 2020 03:04:05 -0100": "2020-01-02T04:04:05Z",
    "0001-01-01T00:00:00+02:00": None,  # before the first year there is
    "yesterday": None,
    "": None,
    "Mon, 99 Foo 2020": None,
    "9" * 5000: None,
}


@pytest.mark.parametrize("stated", TIMES, ids=lambda text: text[:20])
def test_a_stated_time_is_read_as_utc_or_not_at_all(stated: str) -> None:
    assert as_timestamp(stated) == TIMES[stated]


def test_dates_and_times_of_typed_formats_are_read_and_numbers_are_not() -> None:
    assert as_timestamp(dt.date(2020, 1, 2)) == "2020-01-02T00:00:00Z"
    assert as_timestamp(dt.datetime(2020, 1, 2, 3)) == "2020-01-02T03:00:00Z"
    assert as_timestamp(1_577_934_245) is None  # seconds, milliseconds: nobody says which


def jsonl(rows: list[dict[str, Any]]) -> tuple[str, bytes]:
    return "jsonl", b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def parquet(rows: list[dict[str, Any]]) -> tuple[str, bytes]:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), out)
    return "parquet", out.getvalue()


def read(form: tuple[str, bytes], **options: Any) -> list[dict[str, Any]]:
    name, data = form
    part = Slice(InputFile("test:", f"a.{name}", len(data), "1"))
    batches = reader_named(name).read(part, lambda: io.BytesIO(data), options)
    return [row for batch in batches for row in batch.records.to_pylist()]


@pytest.mark.parametrize("write", [jsonl, parquet])
def test_a_time_that_cannot_be_read_stays_in_meta(
    write: Callable[[list[dict[str, Any]]], tuple[str, bytes]],
) -> None:
    rows = [{"text": "a", "when": "2020-01-02"}, {"text": "b", "when": "soon"}]
    got = read(write(rows), columns={"timestamp": "when"})
    assert [row["timestamp"] for row in got] == ["2020-01-02T00:00:00Z", None]
    assert [row["meta"] for row in got] == [None, '{"when":"soon"}']
    unmapped = read(write(rows), columns={"timestamp": None})
    assert [row["meta"] for row in unmapped] == ['{"when":"2020-01-02"}', '{"when":"soon"}']


def test_an_option_of_another_name_type_or_choice_is_refused_in_a_line() -> None:
    known = {"links": Option(False, "keep links"), "by": Option("time", "group", ("time", "none"))}
    assert settings_of(known, {}) == {"links": False, "by": "time"}
    for given, told in (
        ({"link": True}, "Did you mean 'links'"),
        ({"links": "yes"}, "links is 'yes'; write it as False"),
        ({"by": "tim"}, "Did you mean 'time'"),
    ):
        with pytest.raises(InputError, match=told):
            settings_of(known, {"options": given})
    with pytest.raises(InputError, match="no options"):
        settings_of({}, {"options": {"links": True}})
