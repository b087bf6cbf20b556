"""Tokenize: every kept document once, by the encoder that gives the right ids, and never again."""

import importlib.metadata
import importlib.util
import json
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curate.corpus.errors import InputError
from curate.corpus.shard import read_shard
from curate.corpus.storage import Storage
from curate.tokens import encoding
from curate.tokens.tokenizer import SPECIALS, decode, load_tokenizer, train_bpe
from pipelines.build import run
from pipelines.digest import reached
from pipelines.passes import tokenize
from pipelines.passes.base import Event

needs_gigatoken = pytest.mark.skipif(
    importlib.util.find_spec("gigatoken") is None, reason="gigatoken is not installed"
)


@pytest.fixture(scope="module")
def base(lab, tmp_path_factory):
    """Two sources of several parts, with hostile texts among them."""
    folder = tmp_path_factory.mktemp("documents")
    hostile = ["\0", "a\0b\n\n\0", "".join(SPECIALS), "<|eos|>\n" * 50, "\U0010ffff\u202e x"]
    texts = [*map(lab.text, range(60)), *hostile]
    lab.jsonl(folder / "notes" / "a.jsonl", [{"id": i, "text": t} for i, t in enumerate(texts)])
    more = [{"id": i, "text": lab.text(100 + i)} for i in range(40)]
    lab.jsonl(folder / "more" / "b.jsonl", more)
    return folder


@pytest.fixture
def recipe(lab, base):
    def make(tokenizer: dict[str, Any] | None = None, **sections: Any):
        sources = [{"name": n, "paths": [f"{n}/*.jsonl"]} for n in ("notes", "more")]
        if tokenizer is not None:
            sections["tokenize"] = {"tokenizer": tokenizer}
        return lab.recipe(base, sources=sources, collect={"part_bytes": 9000}, **sections)

    return make


@pytest.fixture
def tokenized(lab, tmp_path, monkeypatch):
    """Run up to `tokenize` in a store of its own; return the manifest, its tokens, the notes."""

    def go(recipe, name: str = "store", encoder: Any = None):
        store, notes = tmp_path / name, []
        if encoder is not None:
            monkeypatch.setattr(tokenize, "encoder_of", encoder)
        encoding.encoder_of.cache_clear()

        def note(event: Event) -> None:
            if event.kind == "note" and event.name == "tokenize":
                notes.append(event.message)

        outcome = run(recipe, store=str(store), until="tokenize", observe=note)
        manifest = outcome.manifests["tokenize"]
        storage = Storage(str(store))
        tables = [read_shard(storage, shard) for shard in manifest.tables["tokens"]]
        rows = pa.concat_tables(tables).select(["doc_id", "tokens"]).to_pylist()
        return manifest, {row["doc_id"]: row["tokens"] for row in rows}, notes

    return go


def test_a_new_mixture_tokenizes_nothing_and_a_second_run_neither(lab, recipe, tmp_path):
    store = tmp_path / "store"
    first, executed = lab.run(recipe(), store)
    assert executed["tokenize"] > 2
    _, executed = lab.run(recipe(), store)
    assert executed.total() == 0
    mixed, executed = lab.run(
        recipe(mix={"weights": {"notes": 0.2, "more": 0.8}, "repeat_cap": 9}), store
    )
    assert executed["tokenize"] == 0
    assert executed["mix"] > 0
    before, after = (one.manifests["tokenize"].tables["tokens"] for one in (first, mixed))
    assert before == after


@needs_gigatoken
def test_the_encoder_is_told_and_each_part_is_compared(recipe, tokenized):
    manifest, tokens, notes = tokenized(recipe())
    (used,) = manifest.info["encoders"]
    assert (used["name"], used["why"], notes) == ("gigatoken", "", [])
    assert used["version"] == importlib.metadata.version("gigatoken")
    assert used["parts"] == len(manifest.tables["tokens"])
    assert manifest.counts["compared"] == used["parts"], "one of each part: they are small"
    assert manifest.counts["documents"] == len(tokens) == 105
    boundaries = {0, 1}
    for ids in tokens.values():
        assert (ids[0], ids[-1]) == (0, 1)
        assert not boundaries & set(ids[1:-1])


def test_without_gigatoken_the_shards_are_the_same_and_a_note_says_why_it_takes_longer(
    recipe, tokenized, monkeypatch
):
    with_it, _, _ = tokenized(recipe(), "with")
    monkeypatch.setitem(sys.modules, "gigatoken", None)
    without, _, notes = tokenized(recipe(), "without")
    assert without.tables == with_it.tables
    (used,) = without.info["encoders"]
    assert (used["name"], used["why"]) == ("tokenizers", "gigatoken is not installed")
    assert without.counts["compared"] == 0
    assert notes == [
        "encoded all parts with tokenizers, which is slower: gigatoken is not installed"
    ]


@needs_gigatoken
def test_a_part_with_other_ids_is_encoded_by_tokenizers_and_told(recipe, tokenized):
    right, tokens, _ = tokenized(recipe(), "right")
    calls = []

    def sometimes_wrong(*arguments: Any) -> Any:
        found = encoding.encoder_of(*arguments)

        def flat(data: Any, bounds: Any) -> Any:
            ids, ends = found.flat(data, bounds)
            calls.append(len(bounds))
            return (ids[::-1].copy() if len(calls) == 1 else ids), ends  # the first part only

        return replace(found, flat=flat)

    manifest, found, notes = tokenized(recipe(), "wrong", sometimes_wrong)
    assert found == tokens
    assert manifest.tables == right.tables
    slow = next(used for used in manifest.info["encoders"] if used["name"] == "tokenizers")
    assert slow["parts"] == 1
    assert slow["why"].startswith("gigatoken gives other ids than tokenizers for document ")
    (note,) = notes
    assert note.startswith(f"encoded 1 of {len(manifest.tables['tokens'])} parts with tokenizers")
    assert bytes.fromhex(slow["why"].rpartition(" ")[2]) in found


@needs_gigatoken
def test_a_tokenizer_that_gigatoken_does_not_know_is_used_all_the_same(
    base, recipe, tokenized, tmp_path
):
    data = json.loads(train_bpe(["some words to train on"] * 3, vocab_size=300))
    data["normalizer"] = {"type": "Lowercase"}
    (tmp_path / "tokenizer.json").write_text(json.dumps(data))
    manifest, _, notes = tokenized(recipe({"path": str(tmp_path / "tokenizer.json")}))
    (used,) = manifest.info["encoders"]
    assert (used["name"], "does not know this tokenizer" in used["why"]) == ("tokenizers", True)
    assert len(notes) == 1


def test_another_version_of_either_encoder_is_another_key():
    assert {"gigatoken", "tokenizers"} <= set(reached("pipelines.passes.tokenize")[1])


def test_plain_bytes_come_back_as_they_were(recipe, tokenized, lab):
    manifest, tokens, notes = tokenized(recipe({"bytes": True}))
    assert manifest.info["tokenizer"]["vocab_size"] == 281
    assert [used["name"] for used in manifest.info["encoders"]] == ["bytes"]
    assert notes == []
    texts = {bytes(i - 25 for i in ids[1:-1]).decode() for ids in tokens.values()}
    assert {lab.text(3), "".join(SPECIALS)} <= texts
    assert manifest.counts["tokens"] == manifest.counts["bytes"] + 2 * len(tokens)


def test_the_bytes_of_every_id_are_beside_the_shards(recipe, tokenized, tmp_path):
    manifest, tokens, _ = tokenized(recipe())
    (shard,) = manifest.tables["token_bytes"]
    assert shard.rows == manifest.info["tokenizer"]["vocab_size"]
    sizes = read_shard(Storage(str(tmp_path / "store")), shard)["num_bytes"].to_numpy()
    total = sum(int(sizes[np.array(ids)].sum()) for ids in tokens.values())
    assert total == manifest.counts["bytes"]


def test_tokens_do_not_depend_on_the_size_of_a_batch(recipe, tokenized, monkeypatch):
    _, whole, _ = tokenized(recipe(), "whole")
    for rows, size in ((3, 1 << 20), (4096, 700)):
        monkeypatch.setattr(tokenize, "_BATCH_ROWS", rows)
        monkeypatch.setattr(tokenize, "_BATCH_BYTES", size)
        manifest, parts, _ = tokenized(recipe(), f"{rows}")
        assert parts == whole
        assert manifest.counts["compared"] in (0, len(manifest.tables["tokens"]))


def test_a_document_too_long_for_one_piece_is_cut_and_told(recipe, tokenized, monkeypatch):
    monkeypatch.setattr(encoding, "_PIECE_BYTES", 64)
    monkeypatch.setattr(encoding, "_GIANT_BYTES", 128)
    manifest, tokens, notes = tokenized(recipe())
    assert manifest.counts["torn"] == 2, "those of specials without a space"
    assert notes[-1].startswith("documents encoded in pieces, being too long for one: 2;")
    assert len(tokens) == 105


def test_a_thousandth_is_compared_chosen_by_a_hash():
    encoder = encoding.reference(load_tokenizer(train_bpe([], vocab_size=281)))
    fast = replace(encoder, name="another")
    rng = np.random.default_rng(1)
    ids = pa.array([rng.bytes(16) for _ in range(20_000)], pa.binary(16))
    every = pa.array(np.ones(20_000, dtype=bool))
    chosen = tokenize._compared(ids, every, fast)
    assert 5 < chosen.sum() < 40
    half = pa.array(np.arange(20_000) % 2 == 0)
    assert np.array_equal(
        tokenize._compared(ids, half, fast), chosen & (np.arange(20_000) % 2 == 0)
    )
    for few in (1, 2, 50):
        assert tokenize._compared(ids[:few], every[:few], fast).sum() == 1
    assert not tokenize._compared(ids, every, encoder).any()
    assert not tokenize._compared(ids[:3], pa.array([False] * 3), fast).any()


def test_a_boundary_of_another_name_is_named_in_the_recipe(recipe, tokenized, tmp_path):
    text = train_bpe(["some words to train on"] * 3, vocab_size=300).decode()
    for name in SPECIALS:
        text = text.replace(name, f"[[{name[2:-2]}]]")
    path = tmp_path / "tokenizer.json"
    path.write_text(text)
    with pytest.raises(InputError, match="tokenize.tokenizer.specials"):
        tokenized(recipe({"path": str(path)}), "without")
    own = {"bos": "[[bos]]", "eos": "[[eos]]"}
    manifest, tokens, _ = tokenized(recipe({"path": str(path), "specials": own}), "named")
    assert manifest.info["tokenizer"]["specials"] == {"bos": 0, "eos": 1, "pad": 1}
    assert {ids[0] for ids in tokens.values()} == {0}
    model = load_tokenizer(path, own)
    assert any("<|eos|>" in decode(model, np.array(ids)) for ids in tokens.values())


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({"bytes": True, "path": "x"}, "either 'train' or 'path' or 'bytes'"),
        ({"bytes": True, "vocab_size": 400}, "'vocab_size' goes with 'train'"),
        ({"path": "x", "sample_bytes": 20_000}, "'sample_bytes' goes with 'train'"),
        ({"specials": {"eos": "x"}}, "'specials' goes with 'path'"),
        ({"path": "x", "specials": {"end": "x"}}, "end"),
    ],
)
def test_knobs_that_would_do_nothing_are_refused(recipe, spec, told):
    with pytest.raises(InputError, match=told):
        recipe(spec)
