"""Small corpora made on the spot, whole stores by name and bytes, and the laws at a glance.

`lab` is one bag of helpers with session scope, so that hypothesis may use it too.
"""

import contextlib
import csv
import hashlib
import json
import os
import random
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from curate.corpus.shard import read_shard
from curate.corpus.storage import Storage
from pipelines.build import Outcome, run
from pipelines.corpus import Corpus, open_corpus
from pipelines.engine import Job
from pipelines.passes.base import Event
from pipelines.recipe import Recipe, parse_recipe

ROOT = Path(__file__).resolve().parents[2]
_LETTERS = "abcdefghijklmnop"
_VOCABULARY = [
    "".join(random.Random(i).choices(_LETTERS, k=2 + i % 7)) + _LETTERS[i % 16] for i in range(400)
]


class ShufflingEngine:
    """Completes jobs in a seeded random order, in this process."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.jobs = 0

    def run_all(self, jobs: Sequence[Job]) -> Iterator[tuple[int, Any]]:
        order = list(range(len(jobs)))
        self._random.shuffle(order)
        for index in order:
            function, arguments = jobs[index]
            self.jobs += 1
            yield index, function(*arguments)


class Lab:
    """Makes inputs, recipes and runs, and looks at what they left."""

    ShufflingEngine = ShufflingEngine
    root = ROOT

    @staticmethod
    def text(number: int, words: int = 80) -> str:
        """Return the same words for the same number; different numbers share few 5-grams."""
        return " ".join(random.Random(f"text {number}").choices(_VOCABULARY, k=words))

    def near(self, number: int, changed: int = 0) -> str:
        """Return `text(number)` with one word changed: a shingle Jaccard of about 0.87."""
        words = self.text(number).split()
        words[7 + 11 * changed] = f"changed{changed}"
        return " ".join(words)

    @staticmethod
    def jsonl(path: Path, records: Sequence[Mapping[str, Any] | bytes]) -> Path:
        """Write records (bytes: a line as it is)."""
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [r if isinstance(r, bytes) else json.dumps(r).encode() for r in records]
        path.write_bytes(b"".join(line + b"\n" for line in lines))
        return path

    @staticmethod
    def recipe(base: Path, limit: int | None = None, **sections: Any) -> Recipe:
        """Return a recipe with small knobs; `sections` are its keys."""
        data: dict[str, Any] = {
            "name": "tiny",
            "seed": 7,
            "sources": [{"name": "notes", "paths": ["*.jsonl"]}],
            "split": {"validation": 0.15, "test": 0.15},
            "tokenize": {"tokenizer": {"vocab_size": 300, "sample_bytes": 10_000}},
            "pack": {"row_tokens": 64},
        }
        data |= sections
        return parse_recipe(yaml.safe_dump(data), base=str(base), limit=limit)

    @staticmethod
    def run(
        recipe: Recipe, store: Any, stages: Counter[str] | None = None, **options: Any
    ) -> tuple[Outcome, Counter[str]]:
        """Run; return the outcome and how many parts each pass executed (and each stage)."""
        executed: Counter[str] = Counter()

        def observe(event: Event) -> None:
            if event.kind == "part":
                executed[event.name] += 1
                if stages is not None:
                    stages[f"{event.name} {event.stage}"] += 1

        store = str(store) if isinstance(store, Path) else store
        outcome = run(recipe, store=store, observe=observe, **options)
        assert outcome.executed == executed.total()
        return outcome, executed

    @staticmethod
    def snapshot(store: Path) -> dict[str, str]:
        """Return name -> sha256 of every visible file; nothing else may be left in `.tmp`."""
        return {
            path.relative_to(store).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(store.rglob("*"))
            if path.is_file() and ".tmp" not in path.relative_to(store).parts
        }

    @staticmethod
    def leftovers(store: Path) -> list[str]:
        """Return the names in `.tmp`."""
        folder = store / ".tmp"
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []

    @staticmethod
    def environment(**extra: str) -> dict[str, str]:
        """Return the environment of a child process that imports this checkout."""
        return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **extra}

    def child(
        self, script: str, argument: Any, cwd: Path, **extra: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a script with one JSON argument in a process of its own."""
        return subprocess.run(
            [sys.executable, "-c", script, json.dumps(argument)],
            cwd=cwd,
            env=self.environment(**extra),
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    def archive(self, folder: Path) -> dict[str, Any]:
        """Write a corpus of every kind of trouble; return the recipe's sections."""
        notes: list[Any] = [{"id": f"n{i}", "text": self.text(i)} for i in range(40)]
        notes[5:5] = [b'{"id": "broken', b"\xff\xfe", {"id": "n1", "text": self.text(1)}]
        notes += [{"id": "n2", "text": self.text(901)}, {"id": "e", "text": ""}]
        self.jsonl(folder / "notes" / "a.jsonl", notes)
        more: list[Any] = [{"text": self.near(i, i % 3)} for i in range(0, 24, 2)]
        more += [{"text": self.text(3).upper()}, {"text": self.text(700)}, {"text": "short one"}]
        self.jsonl(folder / "notes" / "b.jsonl", more)
        self.jsonl(folder / "notes" / "c.jsonl", [{"text": self.text(700)}, *more[:2]])
        with (folder / "table.csv").open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["number", "body"])
            writer.writerows([i, self.text(100 + i)] for i in range(25))
        for i in range(30):
            path = folder / "texts" / f"{i % 4}" / f"{i}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            text = self.text(200 + i) if i % 5 else self.near(200 + i + 1)
            end = "\n" if i % 5 else "\r\n"  # cleaning has something to do
            path.write_text(f"The Small Archive, free to read by everybody{end}{text}")
        item = " ".join(self.text(110).split()[10:40])
        self.jsonl(folder / "bench.jsonl", [{"text": item}, {"text": "too short to match"}])
        return {
            "sources": [
                {"name": "notes", "paths": ["notes/*.jsonl"]},
                {"name": "table", "paths": ["table.csv"], "columns": {"text": "body"}},
                {"name": "texts", "paths": ["texts"], "license": "CC0-1.0"},
            ],
            "collect": {"part_bytes": 2500},
            "clean": {"repeated_lines": {"above": 5}},
            "rules": {"add": {"long_enough": "num_words >= 20"}},
            "decontaminate": {"against": [{"name": "bench", "paths": ["bench.jsonl"]}]},
        }

    def frame(self, corpus: Corpus, table: str) -> Any:
        """Return a table of a corpus as a polars frame."""
        return corpus.table(table).collect()

    def check_laws(self, corpus: Corpus, row_tokens: int = 64) -> None:
        """Assert every conservation law of a version, from its tables alone, the plain way."""
        documents, verdicts = self.frame(corpus, "documents"), self.frame(corpus, "verdicts")
        counts = corpus.manifest("collect").counts
        assert counts["records"] == documents.height + self.frame(corpus, "quarantine").height
        ids = documents["doc_id"].to_list()
        assert len(set(ids)) == len(ids), "document ids are unique"
        assert sorted(ids) == sorted(self.frame(corpus, "raw")["doc_id"])
        assert sorted(ids) == sorted(self.frame(corpus, "signals")["doc_id"])
        assert sorted(ids) == sorted(verdicts["doc_id"]), "one verdict per document"
        kept = dict(zip(verdicts["doc_id"], verdicts["kept"], strict=True))
        for row in verdicts.iter_rows(named=True):
            assert row["kept"] == (not row["reasons"]), "dropped means a reason, kept means none"
        self._check_duplicates(corpus, verdicts, kept)
        self._check_tokens(corpus, verdicts, row_tokens)

    def _check_duplicates(self, corpus: Corpus, verdicts: Any, kept: Mapping[str, bool]) -> None:
        parent = {doc: doc for doc in kept}
        cluster = {doc: doc for doc in kept}

        def find(forest: dict[str, str], doc: str) -> str:
            while forest[doc] != doc:
                doc = forest[doc]
            return doc

        edges = list(self.frame(corpus, "duplicates").iter_rows(named=True))
        for edge in edges:
            left, right = edge["doc_id"], edge["twin_id"]
            if edge["kind"] == "exact":
                parent[find(parent, left)] = find(parent, right)
            cluster[find(cluster, left)] = find(cluster, right)
        near: dict[str, set[str]] = defaultdict(set)
        for edge in edges:
            left, right = find(parent, edge["doc_id"]), find(parent, edge["twin_id"])
            near[left] |= {left, right}
            near[right] |= {left, right}
        splits: dict[str, set[str]] = defaultdict(set)
        for row in verdicts.iter_rows(named=True):
            doc, twin = row["doc_id"], row["kept_id"]
            splits[find(cluster, doc)].add(row["split"])
            if any(reason.startswith("duplicate:") for reason in row["reasons"]):
                assert twin is not None, "a duplicate names the document that is kept"
            if twin is not None:
                assert kept[twin], "the document that is kept instead is kept"
                assert not row["kept"]
                assert find(parent, twin) in near[find(parent, doc)], (
                    "and a verified edge leads there"
                )
        assert all(len(names) == 1 for names in splits.values()), "no cluster straddles splits"
        standing = {find(parent, doc) for doc, is_kept in kept.items() if is_kept}
        assert len(standing) == sum(kept.values()), "one survivor of identical texts"
        for one in standing:
            assert not (near[one] - {one}) & standing, "no two survivors are duplicates"

    def _check_tokens(self, corpus: Corpus, verdicts: Any, row_tokens: int) -> None:
        storage = corpus.store.storage
        kept = verdicts.filter("kept")
        split_of = dict(zip(kept["doc_id"], kept["split"], strict=True))
        tokens: dict[tuple[int, int], tuple[str, str, int]] = {}
        for ordinal, shard in enumerate(corpus.shards("tokens")):
            table = read_shard(storage, shard)
            for row, (doc, split, line) in enumerate(
                zip(*(table[c].to_pylist() for c in ("doc_id", "split", "tokens")), strict=True)
            ):
                tokens[ordinal, row] = (doc.hex(), split, len(line))
        assert {doc: split for doc, split, _ in tokens.values()} == split_of
        assert len(tokens) == len(split_of), "every kept document is tokenized once"
        draws = self.frame(corpus, "draws")
        train = {doc: length for doc, split, length in tokens.values() if split == "train"}
        drawn_lengths = dict(zip(draws["doc_id"], draws["tokens"], strict=True))
        assert drawn_lengths.items() <= train.items(), "only training documents are drawn"
        assert draws["copies"].min() is None or draws["copies"].min() >= 1
        drawn = int((draws["tokens"] * draws["copies"]).sum())
        assert drawn == corpus.manifest("mix").counts["drawn_tokens"]
        copies = dict(zip(draws["doc_id"], draws["copies"], strict=True))
        copies |= dict.fromkeys(self.frame(corpus, "held_out")["doc_id"], 1)
        planned = 0
        for split in ("train", "validation", "test"):
            read = {
                place: np.zeros(length, dtype=np.int64)
                for place, (_, of, length) in tokens.items()
                if of == split
            }
            for row in self.frame(corpus, f"plan_{split}")["spans"].to_list():
                assert 0 < sum(span["length"] for span in row) <= row_tokens
                assert len({(s["shard"], s["document"]) for s in row}) == len(row)
                for span in row:
                    seen = read[span["shard"], span["document"]]
                    piece = seen[span["start"] : span["start"] + span["length"]]
                    assert len(piece) == span["length"] > 0
                    piece += 1
                    planned += span["length"] if split == "train" else 0
            for place, seen in read.items():
                wanted = copies.get(tokens[place][0], 0)
                assert (seen == wanted).all(), "the plan tiles every document, copies times"
        assert planned == drawn

    open = staticmethod(open_corpus)

    @staticmethod
    def storage(store: Path) -> Storage:
        """Return a store's storage."""
        return Storage(str(store))

    @staticmethod
    @contextlib.contextmanager
    def patched(target: Any, name: str, value: Any) -> Iterator[None]:
        """Patch an attribute for a block (hypothesis cannot use the monkeypatch fixture)."""
        patch = pytest.MonkeyPatch()
        patch.setattr(target, name, value)
        try:
            yield
        finally:
            patch.undo()


@pytest.fixture(scope="session")
def lab() -> Lab:
    return Lab()


@pytest.fixture(scope="session")
def archive(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """A recipe over JSONL, CSV and a folder of texts, in more than 20 parts; do not change it."""
    folder = tmp_path_factory.mktemp("archive")
    return lab.recipe(folder, **lab.archive(folder))


@pytest.fixture(scope="session")
def archive_store(lab: Lab, archive: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of an undisturbed serial run of `archive`; copy it before changing it."""
    store = tmp_path_factory.mktemp("archive-store") / "store"
    lab.run(archive, store)
    return store
