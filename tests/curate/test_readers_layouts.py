"""Layouts of other tools: files that belong together are read together, or refused in a line."""

import functools
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.corpus.errors import InputError, UnreadableFileError
from curate.readers.base import RECORDS, InputFile, Reject
from curate.readers.discover import expand, group, open_stream
from curate.readers.registry import reader_for, reader_named

Rows = list[dict[str, Any]]


def read(path: Path, format_: str, **options: Any) -> tuple[Rows, list[Reject]]:
    """Read a folder as the collect pass does."""
    columns = options.pop("columns", {})
    rows: Rows = []
    rejects: list[Reject] = []
    for slices in group(expand([str(path)], format=format_), reader_named(format_)):
        for part in slices:
            reader, compression = reader_for(part.file.path, format_)
            opener = functools.partial(open_stream, part.file, compression)
            for batch in reader.read(part, opener, {"options": options, "columns": columns}):
                assert batch.records.schema.equals(RECORDS)
                rows += batch.records.to_pylist()
                rejects += batch.rejects
    return rows, rejects


def write_lines(path: Path, rows: list[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = b"".join(
        row if isinstance(row, bytes) else json.dumps(row).encode() + b"\n" for row in rows
    )
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def metas(rows: Rows) -> list[Any]:
    return [row["meta"] and json.loads(row["meta"]) for row in rows]


# --- Dolma -------------------------------------------------------------------------------------

DOCUMENT = {
    "id": "a",
    "text": "first text",
    "source": "web",
    "added": "2023-01-01T00:00:00.000Z",
    "created": "2020-01-02T03:04:05Z",
    "metadata": {"url": "https://a.org", "license": "cc0", "length": 10},
}


def dolma(folder: Path, tagged: list[Any], documents: list[Any] | None = None) -> Path:
    second = {"id": "b", "text": "second text"}
    write_lines(folder / "documents" / "x" / "0.json.gz", documents or [DOCUMENT, second])
    write_lines(folder / "attributes" / "gopher" / "x" / "0.json.gz", tagged)
    return folder


TAGGED = [
    {"id": "a", "source": "web", "attributes": {"gopher__words": [[0, 10, 2.0]]}},
    {"id": "b", "attributes": {"gopher__words": [[0, 11, 3.0]]}},
]


def test_dolma_documents_carry_their_attributes_and_what_metadata_says(tmp_path):
    rows, rejects = read(dolma(tmp_path, TAGGED), "dolma")
    assert rejects == []
    assert [row["key"] for row in rows] == ["a", "b"]
    first = {name: rows[0][name] for name in ("text", "url", "license", "timestamp")}
    assert first == {
        "text": "first text",
        "url": "https://a.org",
        "license": "cc0",
        "timestamp": "2020-01-02T03:04:05Z",
    }
    assert metas(rows) == [
        {
            "added": "2023-01-01T00:00:00.000Z",
            "attributes": {"gopher": {"gopher__words": [[0, 10, 2.0]]}},
            "metadata": {"length": 10},
            "source": "web",
        },
        {"attributes": {"gopher": {"gopher__words": [[0, 11, 3.0]]}}},
    ]


def test_dolma_documents_alone_are_read_as_they_are(tmp_path):
    write_lines(tmp_path / "documents" / "0.jsonl", [DOCUMENT])
    write_lines(tmp_path / "plain" / "0.jsonl.gz", [DOCUMENT])
    for folder in (tmp_path, tmp_path / "documents", tmp_path / "plain"):
        assert [row["key"] for row in read(folder, "dolma")[0]] == ["a"]


@pytest.mark.parametrize(
    ("tagged", "said"),
    [
        ([TAGGED[1], TAGGED[0]], "the document is 'a', the attributes are 'b'"),
        (TAGGED[:1], "fewer rows"),
        ([*TAGGED, TAGGED[0]], "more rows"),
        ([b"not json\n", TAGGED[1]], "attributes are None"),
    ],
)
def test_dolma_attributes_of_other_documents_are_refused_in_one_line(tmp_path, tagged, said):
    with pytest.raises(UnreadableFileError, match=said) as caught:
        read(dolma(tmp_path, tagged), "dolma")
    assert caught.value.reason == "mismatch"
    assert "\n" not in str(caught.value)
    assert "x/0.json.gz and its attributes 'gopher'" in str(caught.value)
    assert len(read(tmp_path, "dolma", attributes="none")[0]) == 2


@pytest.mark.parametrize(
    "tag", [b"{broken\n", b"[]\n", {"attributes": {}}, {"id": None}, TAGGED[0]]
)
def test_a_dolma_document_without_an_id_has_no_attributes_that_could_be_its_own(tmp_path, tag):
    documents = [{"text": "first text"}, {"id": "b", "text": "second text"}]
    folder = dolma(tmp_path, [tag, TAGGED[1]], documents)
    with pytest.raises(UnreadableFileError, match="the document is None") as caught:
        read(folder, "dolma")
    assert caught.value.reason == "mismatch"
    assert len(read(folder, "dolma", attributes="none")[0]) == 2


@pytest.mark.parametrize("tag", [b"{broken\n", b"[]\n", b"7\n"])
def test_a_line_of_dolma_attributes_that_is_no_row_is_a_mismatch(tmp_path, tag):
    with pytest.raises(UnreadableFileError, match="attributes are None") as caught:
        read(dolma(tmp_path, [TAGGED[0], tag]), "dolma")
    assert caught.value.reason == "mismatch"


def test_a_dolma_document_that_is_no_record_takes_its_attributes_along(tmp_path):
    documents = [DOCUMENT, b"{broken\n", {"id": "b", "text": "second"}]
    tagged = [TAGGED[0], {"id": "broken"}, TAGGED[1]]
    rows, rejects = read(dolma(tmp_path, tagged, documents), "dolma")
    assert [row["key"] for row in rows] == ["a", "b"]
    assert [reject.reason for reject in rejects] == ["invalid_json"]


def test_dolma_attributes_can_be_chosen_by_name(tmp_path):
    folder = dolma(tmp_path, TAGGED)
    write_lines(folder / "attributes" / "lang" / "x" / "0.json.gz", TAGGED)
    chosen, _ = read(folder, "dolma", attributes="lang")
    assert list(metas(chosen)[0]["attributes"]) == ["lang"]
    with pytest.raises(InputError, match="Did you mean 'lang'"):
        read(folder, "dolma", attributes="langs")


def test_changed_attributes_are_a_changed_dolma_file(tmp_path):
    folder = dolma(tmp_path, TAGGED)
    before = expand([str(folder)], format="dolma")
    write_lines(folder / "attributes" / "gopher" / "x" / "0.json.gz", [*TAGGED, TAGGED[0]])
    after = expand([str(folder)], format="dolma")
    assert [file.uri for file in before] == [file.uri for file in after]
    assert before[0].version != after[0].version


@pytest.mark.parametrize("format_", ["dolma", "datatrove", "huggingface"])
def test_a_folder_without_the_layout_is_refused_in_one_line(tmp_path, format_):
    (tmp_path / "a.png").write_bytes(b"x")
    with pytest.raises(InputError, match=f"format {format_}: the paths hold no") as caught:
        expand([str(tmp_path)], format=format_)
    assert "\n" not in str(caught.value)


# --- datatrove ---------------------------------------------------------------------------------


def test_datatrove_metadata_becomes_columns_and_meta(tmp_path):
    rows = [
        {
            "text": "hello",
            "id": "x/1",
            "media": [{"id": "m", "type": 0}],
            "metadata": {"url": "https://a.org", "date": "2020-01-02", "language": "en", "n": 1},
        },
        {"text": "again", "id": "x/2", "metadata": {}},
        {"text": "", "id": "x/3", "metadata": {}},
    ]
    write_lines(tmp_path / "00000.jsonl.gz", rows)
    (tmp_path / "stats.txt").write_text("no data")
    found, rejects = read(tmp_path, "datatrove")
    assert [row["key"] for row in found] == ["x/1", "x/2"]
    assert (found[0]["url"], found[0]["timestamp"]) == ("https://a.org", "2020-01-02T00:00:00Z")
    assert metas(found) == [{"language": "en", "media_ignored": 1, "n": 1}, None]
    assert [reject.reason for reject in rejects] == ["no_text"]


def test_datatrove_files_are_cut_into_the_same_records(tmp_path):
    path = tmp_path / "0.jsonl"
    write_lines(path, [{"text": f"text {n}", "id": str(n)} for n in range(50)])
    reader = reader_named("datatrove")
    file = InputFile(str(path), "0.jsonl", path.stat().st_size, "1")
    for size in (100, 333, 10_000):
        keys = [
            key
            for part in reader.split(file, size)
            for batch in reader.read(part, functools.partial(open_stream, file), {})
            for key in batch.records.column("key").to_pylist()
        ]
        assert keys == [str(n) for n in range(50)]


def test_columns_that_the_recipe_names_are_left_alone(tmp_path):
    row = {"body": "hello", "id": "1", "url": "here", "metadata": {"url": "there", "license": "x"}}
    write_lines(tmp_path / "0.jsonl", [row])
    columns = {"text": "body", "license": None}
    rows, _ = read(tmp_path, "datatrove", columns=columns)
    assert (rows[0]["text"], rows[0]["url"], rows[0]["license"]) == ("hello", "here", None)
    assert metas(rows) == [{"license": "x", "metadata": {"url": "there"}}]


# --- Hugging Face ------------------------------------------------------------------------------

TABLE = pa.table({"text": ["one", "two", "three"], "id": ["1", "2", "3"]})


def saved(folder: Path, split: str | None = None, table: Any = TABLE) -> None:
    """Write what datasets.Dataset.save_to_disk does."""
    folder.mkdir(parents=True)
    name = "data-00000-of-00001.arrow"
    with pa.ipc.new_stream(folder / name, table.schema) as writer:
        writer.write_table(table)
    state = {"_data_files": [{"filename": name}], "_format_type": None, "_split": split}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text(json.dumps({"license": "mit", "features": {}}))


def test_a_data_set_saved_to_disk_is_read_with_its_licence(tmp_path):
    saved(tmp_path / "ds")
    (tmp_path / "README.md").write_text("---\nlicense: gpl-3.0\n---\nanother project")
    rows, rejects = read(tmp_path / "ds", "huggingface")
    assert rejects == []
    assert [(row["text"], row["key"], row["license"]) for row in rows] == [
        ("one", "1", "mit"),
        ("two", "2", "mit"),
        ("three", "3", "mit"),
    ]


def test_the_splits_of_a_saved_data_set_can_be_chosen(tmp_path):
    saved(tmp_path / "train", None)
    saved(tmp_path / "test", None, TABLE.slice(0, 1))
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    assert len(read(tmp_path, "huggingface")[0]) == 4
    assert len(read(tmp_path, "huggingface", split="test")[0]) == 1
    assert len(read(tmp_path / "train", "huggingface", split="train")[0]) == 3
    with pytest.raises(InputError, match="Did you mean 'test'"):
        read(tmp_path, "huggingface", split="tests")


def test_a_saved_data_set_whose_shard_is_gone_or_elsewhere_is_refused(tmp_path):
    saved(tmp_path / "ds")
    for name in ("gone.arrow", "../secret.arrow"):
        state = {"_data_files": [{"filename": name}]}
        (tmp_path / "ds" / "state.json").write_text(json.dumps(state))
        with pytest.raises(InputError, match="not beside it"):
            expand([str(tmp_path / "ds")], format="huggingface")


def hub(folder: Path, head: str) -> Path:
    (folder / "data").mkdir(parents=True)
    (folder / "README.md").write_text(f"---\n{head}\n---\n# Card\n")
    pq.write_table(TABLE, folder / "data" / "train-00000-of-00001.parquet")
    write_lines(folder / "data" / "validation.jsonl", [{"text": "four", "license": "own"}])
    write_lines(folder / "extra" / "test.json", [{"text": "five"}])
    return folder


def test_a_folder_of_the_hub_is_read_by_its_card(tmp_path):
    head = """license: apache-2.0
configs:
- config_name: main
  data_files:
  - split: train
    path: data/train-*
  - split: dev
    path: ["data/validation.jsonl"]
- config_name: more
  data_files: extra/*.json"""
    folder = hub(tmp_path / "ds", head)
    rows, _ = read(folder, "huggingface")
    assert {row["text"]: row["license"] for row in rows} == {
        "one": "apache-2.0",
        "two": "apache-2.0",
        "three": "apache-2.0",
        "four": "own",
        "five": "apache-2.0",
    }
    assert [row["text"] for row in read(folder, "huggingface", split="dev")[0]] == ["four"]
    assert [row["text"] for row in read(folder, "huggingface", config="more")[0]] == ["five"]


def test_a_folder_of_the_hub_without_configs_is_read_whole(tmp_path):
    folder = hub(tmp_path / "ds", "license: [mit]")
    assert len(read(folder, "huggingface")[0]) == 5
    assert len(read(folder, "huggingface", split="validation")[0]) == 1


@pytest.mark.parametrize("head", ["{", "license: {a: b}", "- a", "a: !!python/object:os.system x"])
def test_a_card_that_says_nothing_sensible_is_no_licence(tmp_path, head):
    rows, _ = read(hub(tmp_path / "ds", head), "huggingface", split="train")
    assert {row["license"] for row in rows} == {None}


def test_a_card_that_names_what_is_not_there_is_refused(tmp_path):
    folder = hub(tmp_path / "ds", "configs:\n- data_files: ../../*.parquet")
    with pytest.raises(InputError, match="not there"):
        expand([str(folder)], format="huggingface")


def test_a_changed_card_is_a_changed_file(tmp_path):
    folder = hub(tmp_path / "ds", "license: mit")
    before = {file.version for file in expand([str(folder)], format="huggingface")}
    (folder / "README.md").write_text("---\nlicense: bsd\n---\nlonger than before")
    after = {file.version for file in expand([str(folder)], format="huggingface")}
    assert before.isdisjoint(after)
    assert {row["license"] for row in read(folder, "huggingface", split="train")[0]} == {"bsd"}


def test_parquet_of_a_data_set_is_split_like_parquet(tmp_path):
    reader = reader_named("huggingface")
    file = InputFile("x", "a.parquet", 1000, "1")
    assert len(reader.split(file, 100)) == 10
    assert len(reader.split(InputFile("x", "a.arrow", 1000, "1"), 100)) == 1
