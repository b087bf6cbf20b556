"""Numbers of other tools: what matches becomes signals, and nothing else does."""

import gzip
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from curate.corpus.errors import InputError
from curate.readers import streams as streams_of_readers
from pipelines.exchange.importing import import_signals, tell
from pipelines.exchange.incoming import SPANS, column


@pytest.fixture(scope="module")
def base(lab: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sources, one with files of its own, no document near another."""
    folder = tmp_path_factory.mktemp("import")
    rows = [{"id": f"k{i}", "text": lab.text(i)} for i in range(12)]
    twin = {"id": "k0", "text": lab.text(900)}  # quarantined: another text of the same key
    lab.jsonl(
        folder / "a" / "0.jsonl",
        [*rows[:3], twin, b"{broken", {"id": "none", "text": ""}, *rows[3:7]],
    )
    lab.jsonl(folder / "a" / "1.jsonl", rows[7:])
    lab.jsonl(
        folder / "b" / "0.jsonl", [{"id": f"k{i}", "text": lab.text(100 + i)} for i in range(4)]
    )
    return folder


def recipe(lab: Any, base: Path, **sections: Any) -> Any:
    sources = [{"name": name, "paths": [f"{name}/*.jsonl"]} for name in ("a", "b")]
    near = {"exact": True, "near": None}
    return lab.recipe(base, name="small", sources=sources, deduplicate=near, **sections)


@pytest.fixture(scope="module")
def corpus(lab: Any, base: Path) -> Any:
    lab.run(recipe(lab, base), base / "store", until=None)
    return lab.open("small", store=str(base / "store"))


def documents(corpus: Any) -> list[dict[str, Any]]:
    frame = corpus.table("documents").select("doc_id", "source", "key", "path", "text_hash")
    return frame.sort("doc_id").collect().to_dicts()


def bring(corpus: Any, tmp_path: Path, content: Any, file: str = "x.jsonl", **options: Any) -> Any:
    """Write a file and import it; return what was done and the file's table."""
    path = tmp_path / "in" / file
    path.parent.mkdir(exist_ok=True)
    if isinstance(content, pl.DataFrame):
        content.write_parquet(path)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in content))
    settings: dict[str, Any] = {"name": "n", "out": tmp_path / "out.arrow", **options}
    done = import_signals(corpus, settings.pop("format", "table"), [path], **settings)
    return done, pa.ipc.open_file(str(done.out)).read_all()


def test_imported_numbers_are_signals_that_rules_read(
    corpus: Any, lab: Any, base: Path, tmp_path: Path
) -> None:
    rows = documents(corpus)
    table = [
        {
            "doc_id": row["doc_id"],
            "score": i / 10,
            "good": i % 2 == 0,
            "text_hash": row["text_hash"],
        }
        for i, row in enumerate(rows)
    ]
    done, _ = bring(corpus, tmp_path, table[:10], file="s.jsonl", out=base / "scores.arrow")
    assert done.signals == {"n_score": "number", "n_good": "flag"}
    assert (done.matched, done.documents, done.strange) == (10, 16, 0)
    assert "documents have none: rules see null" in "\n".join(tell(done))
    asked = {"imported": {"n": {"path": "scores.arrow", "signals": done.signals}}}
    rules = {"add": {"good": "n_good OR n_score > 0.65"}, "on_null": "drop"}
    again = recipe(lab, base, measure=asked, rules=rules)
    outcome, _ = lab.run(again, base / "store2")
    found = lab.open("small", store=str(base / "store2"))
    signals = dict(found.table("signals").select("doc_id", "n_score").collect().rows())
    assert signals == {row["doc_id"]: (i / 10 if i < 10 else None) for i, row in enumerate(rows)}
    kept = set(found.table("verdicts").filter("kept").collect()["doc_id"])
    assert kept == {rows[i]["doc_id"] for i in (0, 2, 4, 6, 7, 8, 9)}
    assert outcome.manifests["measure"].info["imported"] == {"imported:n": 10}
    _, executed = lab.run(again, base / "store2")
    assert not executed, "the second run finds everything done"
    bring(corpus, tmp_path, table[:9], file="t.jsonl", out=base / "scores.arrow")
    _, executed = lab.run(again, base / "store2")
    assert executed["measure"] > 0, "the file's content is part of what is measured"
    assert executed["clean"] == 0


def test_numbers_of_another_text_are_refused_or_left_out(
    corpus: Any, lab: Any, base: Path, tmp_path: Path
) -> None:
    rows = documents(corpus)
    table = [{"doc_id": r["doc_id"], "n": 1, "text_hash": r["text_hash"]} for r in rows]
    bring(corpus, tmp_path, table, out=base / "old.arrow")
    asked = {"path": "old.arrow", "signals": {"n": "integer"}}
    cut = {"truncate": {"max_characters": 60}}
    late = recipe(lab, base, clean=cut, measure={"imported": {"n": asked}})
    with pytest.raises(InputError, match=r"another text than the one their numbers.*leave_out"):
        lab.run(late, tmp_path / "s")
    asked["stale"] = "leave_out"
    lab.run(recipe(lab, base, clean=cut, measure={"imported": {"n": asked}}), tmp_path / "s")
    found = lab.open("small", store=str(tmp_path / "s")).table("signals").collect()
    assert found["n"].null_count() == found.height
    table[0]["text_hash"] = "0" * 32
    with pytest.raises(InputError, match=r"1 of 16 rows were computed on another text"):
        bring(corpus, tmp_path, table)


def test_ids_are_found_in_every_form(corpus: Any, tmp_path: Path) -> None:
    rows = documents(corpus)
    raw = pl.DataFrame({"doc_id": [bytes.fromhex(r["doc_id"]) for r in rows], "v": range(16)})
    forms: list[tuple[str, Any, dict[str, Any]]] = [
        ("r.parquet", raw, {}),
        ("h.jsonl", [{"id": r["doc_id"].upper(), "v": i} for i, r in enumerate(rows)], {}),
        (
            "k.jsonl",
            [{"key": r["key"], "source": r["source"], "v": i} for i, r in enumerate(rows)],
            {},
        ),
        (
            "c.csv",
            ("doc_id,v\n" + "".join(f"{r['doc_id']},{i}\n" for i, r in enumerate(rows))).encode(),
            {},
        ),
        (
            "z.csv.gz",
            gzip.compress(
                (
                    "key\tv\n".replace("\t", ",")
                    + "".join(f"{r['key']},{i}\n" for i, r in enumerate(rows) if r["source"] == "a")
                ).encode()
            ),
            {"source": "a"},
        ),
    ]
    for name, content, options in forms:
        done, table = bring(corpus, tmp_path, content, name, **options)
        wanted = {
            r["doc_id"]: i
            for i, r in enumerate(rows)
            if "source" not in options or r["source"] == "a"
        }
        found = dict(
            zip(
                (i.hex() for i in table["doc_id"].to_pylist()),
                table["n_v"].to_pylist(),
                strict=True,
            )
        )
        assert found == wanted, name
        assert list(found) == sorted(found)
        assert done.signals == {"n_v": "integer"}


def test_what_does_not_fit_is_refused_with_the_reason(corpus: Any, tmp_path: Path) -> None:
    rows = documents(corpus)
    a, b = rows[0]["doc_id"], rows[1]["doc_id"]
    shared = next(r["key"] for r in rows if r["source"] == "b")
    cases: list[tuple[Any, dict[str, Any], str]] = [
        ([{"doc_id": "f" * 32, "v": 1}], {}, "no row belongs to a document"),
        ([{"doc_id": None, "v": 1}], {}, "no row belongs to a document"),
        ([{"key": shared, "v": 1}], {}, "1 keys are in several sources"),
        ([{"doc_id": a, "v": 1}, {"doc_id": a, "v": 2}], {}, "1 documents have several rows"),
        ([{"doc_id": a, "v": 1}, {"doc_id": b, "v": "x"}], {}, "several kinds"),
        ([{"doc_id": a, "v": 1 << 63}], {}, "beyond 64 bits"),
        ([{"doc_id": a, "v": float("nan")}], {}, "every number that matched is null"),
        ([{"doc_id": a, "v": "text"}], {}, "no column of numbers or flags"),
        ([{"other": a, "v": 1}], {}, "no column doc_id, id or key"),
        ([{"doc_id": a, "v": 1}], {"columns": ["w"]}, "unknown column 'w'"),
        ([{"doc_id": a, "v": 1, "V": 2}], {}, "two columns would be called 'n_v'"),
        ([{"doc_id": a, "words": 1}], {"name": "num"}, "there is a signal 'num_words' already"),
        ([{"doc_id": a, "v" * 120: 1}], {}, "more than 100"),
        ([{"doc_id": a, "v": 1}], {"name": "Bad name"}, "small letters"),
        ([{"doc_id": a, "v": 1}], {"source": "c"}, "unknown source 'c'"),
        ([{"doc_id": a, "v": 1}], {"format": "dolmo"}, "Did you mean 'dolma'"),
        (b"{nope\n", {}, "line 1 is no JSON"),
        (b"[1]\n", {}, "line 1 is no JSON object"),
        (b'{"doc_id": ' + b"[" * 5000 + b"\n", {}, "line 1 is no JSON"),
    ]
    for content, options, told in cases:
        with pytest.raises(InputError, match=told):
            bring(corpus, tmp_path, content, **options)
        assert not (tmp_path / "out.arrow").exists()
    with pytest.raises(InputError, match="no such file"):
        import_signals(corpus, "table", [tmp_path / "no"], name="n", out=tmp_path / "o")
    for name in ("broken.parquet", "broken.arrow"):
        with pytest.raises(InputError, match="cannot be read"):
            bring(corpus, tmp_path, b"PAR1 no", file=name)


def test_half_a_match_twice_the_same_row_and_no_number_are_told(
    corpus: Any, tmp_path: Path
) -> None:
    rows = documents(corpus)
    table = [{"doc_id": r["doc_id"], "v": float(i), "w": "x"} for i, r in enumerate(rows[:8])]
    table += [
        table[0],
        {"doc_id": "e" * 32, "v": 1.0},
        {"doc_id": rows[9]["doc_id"], "v": float("inf")},
    ]
    done, found = bring(corpus, tmp_path, table)
    assert (done.rows, done.matched, done.strange) == (11, 9, 1)
    assert sum(value is None for value in found["n_v"].to_pylist()) == 1, "infinite is null"
    assert done.signals == {"n_v": "number"}, "text is taken only by name"
    done, found = bring(corpus, tmp_path, table[:8], columns=["w"])
    assert done.signals == {"n_w": "text"}
    assert set(found["n_w"].to_pylist()) == {"x"}


def test_a_bomb_is_stopped_and_not_held(corpus: Any, lab: Any, tmp_path: Path) -> None:
    bomb = gzip.compress(b'{"doc_id": "' + b"0" * 30_000_000)
    with (
        lab.patched(streams_of_readers, "_FREE_BYTES", 1 << 20),
        pytest.raises(InputError, match="500 times"),
    ):
        bring(corpus, tmp_path, bomb, file="x.jsonl.gz")


def test_dolma_spans_become_numbers_of_documents(corpus: Any, tmp_path: Path) -> None:
    attributes = [
        {"id": "k1", "attributes": {"exp__toxic__score": [[0, 100, 0.25]], "pii__spans": []}},
        {
            "id": "k2",
            "attributes": {
                "exp__toxic__score": [[0, 10, 1.0], [10, 40, 0.0]],
                "pii__spans": [[0, 3, 1], [5, 9, 1]],
            },
        },
        {"id": "gone", "attributes": {"exp__toxic__score": [[0, 1, 1.0]]}},
    ]
    data = "".join(json.dumps(one) + "\n" for one in attributes).encode()
    folder = tmp_path / "attributes" / "exp" / "0.jsonl.gz"
    folder.parent.mkdir(parents=True)
    folder.write_bytes(gzip.compress(data))
    out = tmp_path / "d.arrow"
    done = import_signals(
        corpus, "dolma", [tmp_path / "attributes"], name="tox", out=out, source="a"
    )
    assert done.signals == {"tox_score": "number", "tox_spans": "number"}
    assert (done.matched, done.strange) == (2, 1)
    keys = {r["doc_id"]: r["key"] for r in documents(corpus)}
    table = pa.ipc.open_file(str(out)).read_all().to_pylist()
    found = {keys[row["doc_id"].hex()]: (row["tox_score"], row["tox_spans"]) for row in table}
    assert found == {"k1": (0.25, None), "k2": (0.25, 1.0)}
    done = import_signals(
        corpus,
        "dolma",
        [folder],
        name="pii",
        out=out,
        source="a",
        spans="count",
        columns=["pii__spans"],
    )
    table = pa.ipc.open_file(str(out)).read_all().to_pylist()
    assert {keys[r["doc_id"].hex()]: r["pii_spans"] for r in table} == {"k1": 0.0, "k2": 2.0}
    with pytest.raises(InputError, match="Did you mean 'mean'"):
        import_signals(corpus, "dolma", [folder], name="x", out=out, spans="maen")
    for wrong in ([[0, 1]], [[5, 1, 0.5]], "x", [["a", 2, 3]], 7):
        with pytest.raises(InputError, match="x.jsonl"):
            bring(corpus, tmp_path, [{"id": "k1", "attributes": {"t": wrong}}], format="dolma")


def test_ways_to_sum_spans_are_what_they_are_called() -> None:
    spans = [(2.0, 1.0), (6.0, 0.5)]
    assert {name: way(spans) for name, way in SPANS.items()} == {
        "mean": 0.625,
        "max": 1.0,
        "sum": 1.5,
        "count": 2.0,
    }
    assert SPANS["mean"]([(0.0, 1.0), (0.0, 3.0)]) == 2.0
    assert column("x", [True, None]).to_list() == [True, None]


def test_datatrove_metadata_is_read_by_id(corpus: Any, tmp_path: Path) -> None:
    rows = [
        {"id": "k1", "text": "t", "metadata": {"score": 2.5, "lang": "en", "ok": True}},
        {"id": "k7", "text": "u", "metadata": {"score": 3}},
    ]
    done, table = bring(corpus, tmp_path, rows, format="datatrove", source="a")
    assert done.signals == {"n_score": "number", "n_ok": "flag"}
    assert sorted(table["n_score"].to_pylist()) == [2.5, 3.0]
    done, table = bring(corpus, tmp_path, rows, format="datatrove", source="a", columns=["lang"])
    assert set(table["n_lang"].to_pylist()) == {None, "en"}


def test_datatrove_removals_find_their_documents_by_file_and_place(
    corpus: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "dedup"
    folder.mkdir()
    # datatrove passes over a broken line and an empty text too, but not over the second k0
    (folder / "000000.remove").write_bytes(struct.pack("<2I", 1, 4))
    (folder / "000001.remove").write_bytes(struct.pack("<I", 0))
    (folder / "000001.sizes").write_bytes(struct.pack("<4I", 0, 5, 2, 5))
    out = tmp_path / "r.arrow"
    done = import_signals(corpus, "datatrove", [folder], name="mh", out=out, source="a")
    assert done.signals == {"mh_removed": "flag", "mh_size": "integer"}
    keys = {r["doc_id"]: r["key"] for r in documents(corpus) if r["source"] == "a"}
    table = pa.ipc.open_file(str(out)).read_all().to_pylist()
    assert {keys[r["doc_id"].hex()] for r in table if r["mh_removed"]} == {"k1", "k3", "k7"}
    assert {keys[r["doc_id"].hex()]: r["mh_size"] for r in table if r["mh_size"] != 1} == {
        "k7": 5,
        "k9": 5,
    }
    assert len(table) == 12, "the other source has no row"
    with pytest.raises(InputError, match="add --source"):
        import_signals(corpus, "datatrove", [folder], name="mh", out=out)
    for name, data, told in (
        ("000002.remove", struct.pack("<I", 0), "has no file"),
        ("000001.remove", struct.pack("<I", 9), "names place 9"),
        ("000001.remove", b"\0\0\0", "cut short"),
        ("000001.remove", struct.pack("<2I", 3, 1), "do not rise"),
    ):
        bad = tmp_path / name
        bad.write_bytes(data)
        with pytest.raises(InputError, match=told):
            import_signals(corpus, "datatrove", [bad], name="mh", out=out, source="a")
    signature = tmp_path / "00000.minhash.sig"
    signature.write_bytes(np.zeros(68, dtype=np.uint8).tobytes())
    with pytest.raises(InputError, match="nothing in them can be verified"):
        import_signals(corpus, "datatrove", [signature], name="mh", out=out, source="a")


def test_a_recipe_that_names_what_is_not_there_fails_before_any_work(
    corpus: Any, lab: Any, base: Path, tmp_path: Path
) -> None:
    bring(
        corpus, tmp_path, [{"doc_id": documents(corpus)[0]["doc_id"], "v": 1}], out=base / "v.arrow"
    )
    (base / "junk.arrow").write_bytes(b"ARROW1 junk")
    ids = [b"b" * 16, b"a" * 16]
    schema = pa.schema(
        [("doc_id", pa.binary(16)), ("text_hash", pa.binary(16)), ("n_v", pa.int64())]
    )
    with pa.ipc.new_file(str(base / "unsorted.arrow"), schema) as writer:
        writer.write_table(
            pa.table({"doc_id": ids, "text_hash": ids, "n_v": [1, 2]}, schema=schema)
        )
    cases: list[tuple[str, dict[str, str], str]] = [
        ("no.arrow", {"n_v": "integer"}, "No such file"),
        ("junk.arrow", {"n_v": "integer"}, "no Arrow file"),
        ("v.arrow", {"n_w": "integer"}, "Did you mean 'n_v'"),
        ("v.arrow", {"n_v": "number"}, "n_v is integer there, and number here"),
        ("v.arrow", {"num_words": "integer"}, "'num_words', which"),
        ("unsorted.arrow", {"n_v": "integer"}, "not sorted"),
    ]
    for path, signals, told in cases:
        asked = recipe(lab, base, measure={"imported": {"n": {"path": path, "signals": signals}}})
        with pytest.raises(InputError, match=told):
            lab.run(asked, tmp_path / "s")
    assert not (tmp_path / "s").exists() or not lab.snapshot(tmp_path / "s")
