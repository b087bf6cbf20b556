"""The mixture of a whole run: domains, factors and phases as a recipe says them."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from curate.corpus.errors import InputError, IntegrityError
from curate.corpus.schema import SCHEMAS
from curate.corpus.shard import read_shard
from curate.corpus.storage import Storage
from pipelines.build import run
from pipelines.console import show_summary
from pipelines.corpus import Corpus, why
from pipelines.demanded import families_of, signals_read
from pipelines.explain import explain
from pipelines.passes import tally
from pipelines.passes.base import Event, Workspace
from pipelines.recipe import Recipe
from pipelines.report.facts import load_facts
from pipelines.report.mixture import mixture
from pipelines.report.page import build_report, summary
from pipelines.store import Store
from pipelines.verify import verify

Mixed = Callable[..., Corpus]
QUALITY = {"books": {"by": "num_words", "below": 0.5, "buckets": 4}}


@pytest.fixture(scope="module")
def folder(lab: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Notes, one of which stands there four times, and books of 40 to 79 words."""
    base = tmp_path_factory.mktemp("mix")
    notes = [{"text": lab.text(i)} for i in range(40)]
    notes += [{"text": lab.text(3)} for _ in range(3)]
    lab.jsonl(base / "notes.jsonl", notes)
    lab.jsonl(base / "books.jsonl", [{"text": lab.text(900 + i, 40 + i)} for i in range(40)])
    return base


@pytest.fixture(scope="module")
def recipe(lab: Any, folder: Path) -> Callable[..., Recipe]:
    def make(mix: dict[str, Any]) -> Recipe:
        sources = [{"name": n, "paths": [f"{n}.jsonl"]} for n in ("notes", "books")]
        made: Recipe = lab.recipe(folder, sources=sources, mix=mix)
        return made

    return make


@pytest.fixture(scope="module")
def mixed(lab: Any, folder: Path, recipe: Callable[..., Recipe]) -> Mixed:
    """Return a function that mixes anew and gives the corpus; nothing but mix and pack runs."""
    store = folder / "store"
    lab.run(recipe({}), store)

    def mix(**section: Any) -> Corpus:
        outcome, executed = lab.run(recipe(section), store)
        assert set(executed) <= {"mix", "pack"}, "a new mixture reads no text and encodes nothing"
        corpus: Corpus = lab.open(str(outcome.version), store=str(store))
        return corpus

    return mix


def copies(corpus: Corpus) -> dict[tuple[str, int], int]:
    frame = corpus.table("draws").collect()
    rows = zip(frame["doc_id"], frame["phase"], frame["copies"], strict=True)
    return {(doc, phase): count for doc, phase, count in rows}


def phases(corpus: Corpus) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = corpus.manifest("mix").info["phases"]
    return found


def test_budgets_count_bytes_and_documents_as_well_as_tokens(mixed: Mixed) -> None:
    for budget, unit, amount in (
        ("30 documents", "documents", 30),
        ("6 kB", "bytes", 6000),
        ("5K tokens", "tokens", 5000),
    ):
        corpus = mixed(budget=budget, strategy="uniform")
        (phase,) = phases(corpus)
        assert phase["unit"] == unit
        assert [row["asked"] for row in phase["domains"]] == [amount // 2] * 2
        verdicts = corpus.table("verdicts").select("doc_id", "source", "num_bytes").collect()
        drawn = corpus.table("draws").collect().join(verdicts, on="doc_id")
        size = {"documents": pl.lit(1), "bytes": pl.col("num_bytes"), "tokens": pl.col("tokens")}
        for row in phase["domains"]:
            mine = drawn.filter(source=row["domain"])
            realised = mine.select((size[unit] * pl.col("copies")).sum()).item()
            assert row["realised"] == realised
            assert abs(realised - amount // 2) <= mine.select(size[unit].max()).item()


def test_a_survivor_is_read_as_often_as_its_duplicates_earn(mixed: Mixed) -> None:
    corpus = mixed(copies="duplicates", repeat_cap=3)
    verdicts = corpus.table("verdicts").collect()
    spoken = verdicts["kept_id"].drop_nulls().value_counts(name="count")
    alike = {doc: 1 + count for doc, count in spoken.rows()}
    found = copies(corpus)
    assert max(alike.values()) == 4
    assert found == {(doc, 0): min(alike.get(doc, 1), 3) for doc, _ in found}
    assert verify(corpus) == []
    loud = mixed(copies={1: 2, 4: 0})
    survivor = next(doc for doc, count in alike.items() if count == 4)
    assert copies(loud) == {key: 2 for key in found if key[0] != survivor}


def test_a_quality_curve_reads_the_better_half_of_a_source(mixed: Mixed) -> None:
    corpus = mixed(quality=QUALITY, budget="9K tokens", weights={"books": 2, "notes": 1})
    words = dict(corpus.table("signals").select("doc_id", "num_words").collect().rows())
    frame = corpus.table("draws").collect()
    read = frame.filter(domain="books")
    train = corpus.table("tokens").filter(pl.col("split") == "train", pl.col("source") == "books")
    ids = train.select("doc_id").collect()["doc_id"]
    median = sorted(words[doc] for doc in ids)[len(ids) // 2]
    assert min(words[doc] for doc in read["doc_id"]) >= median - 2
    best = max(read["doc_id"], key=lambda doc: words[doc])
    assert read.filter(doc_id=best)["copies"].item() == read["copies"].max() >= 2
    (phase,) = phases(corpus)
    rates = phase["domains"][1]["curve"]
    assert rates[:2] == [0, 0]
    assert 0 < rates[2] < rates[3] <= 4


def test_domains_may_be_any_expression_over_signals(mixed: Mixed) -> None:
    corpus = mixed(
        domains="CASE WHEN num_words < 60 THEN 'short' WHEN num_words < 80 THEN 'long' END",
        weights={"short": 3, "*": 1},
        budget="2K tokens",
    )
    rows = {row["domain"]: row for row in phases(corpus)[0]["domains"]}
    assert list(rows) == ["long", "null", "short"]
    assert rows["short"]["asked"] == 1500
    words = dict(corpus.table("signals").select("doc_id", "num_words").collect().rows())
    for doc, domain in corpus.table("draws").select("doc_id", "domain").collect().rows():
        assert domain == ("short" if words[doc] < 60 else "long" if words[doc] < 80 else "null")
    floors = mixed(domains="FLOOR(num_words / 40)")
    assert [row["domain"] for row in phases(floors)[0]["domains"]] == ["1", "2"]


def test_phases_have_draws_plans_and_a_place_in_why_and_in_the_report(
    mixed: Mixed, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = mixed(
        copies="duplicates",
        phases=[
            {"name": "main", "budget": "8K tokens", "weights": {"notes": 3, "books": 1}},
            {
                "name": "anneal",
                "budget": "20 documents",
                "epochs": {"notes": 0},
                "quality": QUALITY,
            },
        ],
    )
    assert [phase["name"] for phase in corpus.manifest("mix").settings["phases"]] == [
        "main",
        "anneal",
    ]
    main, anneal = phases(corpus)
    assert (main["unit"], anneal["unit"]) == ("tokens", "documents")
    assert [row["realised"] for row in anneal["domains"]] == [0, 20]
    packed = corpus.manifest("pack").counts
    frame = corpus.table("draws").collect()
    for number, plan in enumerate(("train", "train_1")):
        mine = frame.filter(phase=number)
        assert packed[f"{plan}_tokens"] == (mine["copies"] * mine["tokens"]).sum()
    assert verify(corpus) == []
    total = {row["domain"]: row for row in corpus.manifest("mix").info["domains"]}
    assert (
        sum(row["realised_tokens"] for row in total.values())
        == (corpus.manifest("mix").counts["drawn_tokens"])
    )
    both = frame["doc_id"].filter(frame["doc_id"].is_duplicated())
    life = why(corpus, both[0])
    assert [draw["name"] for draw in life["draws"]] == ["main", "anneal"]
    assert sorted(life["plans"]) == ["plan_train", "plan_train_1"]
    assert all(life["plans"].values())
    explain(str(corpus.version), both[0], store=corpus.store.uri)
    told = capsys.readouterr().out
    assert "drawn for books, phase anneal" in told
    assert "of plan_train_1" in told
    show_summary(summary(corpus))
    assert "20 documents" in capsys.readouterr().out
    report = build_report(corpus)
    section = report.data["mixture"]
    assert [phase["name"] for phase in section["phases"]] == ["main", "anneal"]
    assert section["phases"][1]["total"]["realised"] == 20
    assert "Phase 2, anneal." in report.html
    assert "20 documents in natural proportions; notes 0 epochs" in report.html
    assert 'aria-label="Copies of books by quality' in report.html


def test_a_budget_that_whole_documents_miss_is_told_and_one_that_they_meet_is_not(
    lab: Any,
    folder: Path,
    recipe: Callable[..., Recipe],
    mixed: Mixed,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def notes(**mix: Any) -> list[str]:
        mixed(**mix)
        told: list[Event] = []
        run(recipe(mix), store=str(folder / "store"), observe=told.append)
        return [event.message for event in told if event.kind == "note" and event.name == "mix"]

    crumbs = {"domains": "num_words", "budget": "2K tokens"}
    (note,) = notes(**crumbs)
    (phase,) = phases(mixed(**crumbs))
    drawn = sum(row["realised"] for row in phase["domains"])
    assert abs(drawn - 2000) > phase["longest"]
    assert f"of the 2,000 tokens of the budget {drawn:,} were drawn" in note
    assert "group the domains" in note
    show_summary(summary(mixed(**crumbs)))
    (line,) = [row for row in capsys.readouterr().out.splitlines() if row.startswith("train  all ")]
    assert line.split()[2:5] == ["2,000", f"{drawn:,}", "tokens"]
    (note,) = notes(phases=[{"name": "a", "budget": "1 token"}, {"name": "b", "budget": "1 kB"}])
    assert note.startswith("phase 'a': of the 1 tokens of the budget 0 were drawn (0.0 %)")
    assert notes(budget="3K tokens", weights={"books": 1, "notes": 2}) == []
    show_summary(summary(mixed(budget="3K tokens", weights={"books": 1, "notes": 2})))
    (line,) = [row for row in capsys.readouterr().out.splitlines() if row.startswith("all ")]
    assert "3,000" in line.split()


def test_held_out_documents_are_equal_in_bytes_and_the_only_ones_packed(mixed: Mixed) -> None:
    corpus = mixed(held_out="500 B")
    verdicts = corpus.table("verdicts").filter("kept").collect()
    chosen = corpus.table("held_out").collect().join(verdicts, on=["doc_id", "split", "source"])
    assert chosen.height == corpus.table("held_out").collect().height > 0
    for split in ("validation", "test"):
        for source in ("notes", "books"):
            mine = chosen.filter(split=split, source=source)["num_bytes"]
            there = verdicts.filter(split=split, source=source)["num_bytes"]
            assert abs(mine.sum() - min(500, there.sum())) <= there.max()
        tokens = (
            corpus.table("tokens")
            .collect()
            .join(chosen.filter(split=split).select("doc_id"), on="doc_id")
        )
        assert corpus.manifest("pack").counts[f"{split}_tokens"] == (
            tokens["tokens"].list.len().sum()
        )
    assert verify(corpus) == []
    everything = mixed(held_out="all").table("held_out").collect()
    assert everything.height == verdicts.filter(pl.col("split") != "train").height


@pytest.mark.parametrize(
    ("mix", "message"),
    [
        ({"domains": "num_wordz"}, "mix.domains reads 'num_wordz'.* Did you mean 'num_words'"),
        ({"domains": "AVG(num_words)"}, "mix.domains has an aggregate"),
        ({"domains": "ROW_NUMBER() OVER (ORDER BY num_words)"}, "mix.domains"),
        ({"domains": "(SELECT 1 FROM read_csv('x'))"}, "mix.domains has a sub-query"),
        ({"domains": "1"}, "reads no signal"),
        ({"quality": {"notes": {"by": "source"}}}, "mix.quality.notes gives a string"),
        (
            {"phases": [{"name": "a", "budget": "1K tokens", "quality": {"*": {"by": "nope"}}}]},
            r"mix.phases.0.quality.\* reads 'nope'",
        ),
        ({"budget": "900 GB"}, "asks for 900,000,000,000 bytes"),
    ],
)
def test_a_mixture_that_cannot_be_is_refused_before_any_work(
    mix: dict[str, Any], message: str, lab: Any, recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        lab.run(recipe(mix), tmp_path / "store")
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("mix", "message"),
    [
        ({"budget": "1.5 documents"}, "documents are whole"),
        ({"budget": "1.0005k tokens"}, "tokens are whole"),
        ({"epochs": {}}, "epochs name no domain"),
        ({"phases": [{"name": "a", "budget": "1k tokens", "epochs": {}}]}, "name no domain"),
    ],
)
def test_what_a_recipe_cannot_mean_is_refused(
    mix: dict[str, Any], message: str, recipe: Callable[..., Recipe]
) -> None:
    with pytest.raises(ValueError, match=message):
        recipe(mix)
    assert recipe({"budget": "1.5k documents"}).mix.amount == (1500, "documents")
    assert recipe({"budget": "1.1 GiB"}).mix.amount == (1181116006, "bytes")


def test_a_budget_of_documents_that_are_all_left_out_is_refused(mixed: Mixed) -> None:
    with pytest.raises(InputError, match="largest feasible budget is 0 tokens"):
        mixed(budget="1K tokens", copies={1: 0, 1000: 2})


def test_a_version_made_before_there_were_phases_still_has_its_mixture_told(mixed: Mixed) -> None:
    corpus = mixed(budget="3K tokens", weights={"books": 1, "notes": 2})
    now = mixture(load_facts(corpus))
    manifest = corpus.manifest("mix")
    fields = ("domain", "documents", "drawn_documents", "asked_share", "realised_share", "epochs")
    fields += ("available_tokens", "asked_tokens", "realised_tokens")
    info = {"domains": [{name: row[name] for name in fields} for row in manifest.info["domains"]]}
    settings = {name: manifest.settings[name] for name in ("mix", "budget_tokens")}
    corpus._manifests["mix"] = replace(manifest, settings=settings, info=info)
    then = mixture(load_facts(corpus))
    assert [row["realised"] for row in then["phases"][0]["rows"]] == [
        row["realised"] for row in now["phases"][0]["rows"]
    ]
    assert then["phases"][0]["said"] == now["phases"][0]["said"] == "3,000 tokens by weights"
    assert then["held_out"] == []
    assert now["held_out"]


def test_a_mixture_with_every_key_survives_its_own_json(recipe: Callable[..., Recipe]) -> None:
    made = recipe(
        {
            "domains": "source",
            "repeat_cap": {"books": 8, "*": 3},
            "copies": {1: 1, 4: 2.5},
            "quality": {"books": {"by": "num_words", "top": 7.5}},
            "strategy": {"temperature": 2},
            "held_out": "1 MB",
            "phases": [
                {"name": "a", "budget": "1K tokens", "strategy": {"unimax": {"epochs": 2}}},
                {"name": "b", "epochs": {"notes": 1, "books": 0.5}, "copies": "duplicates"},
                {"name": "c", "budget": "1 kB", "quality": {}},
            ],
        }
    )
    again = Recipe.model_validate(json.loads(json.dumps(made.model_dump(mode="json"))))
    assert again.mix == made.mix
    assert again.mix.portions() == made.mix.portions()
    a, b, c = made.mix.portions().values()
    assert a.copies == c.copies == {1: 1, 4: 2.5} != b.copies
    assert a.quality == b.quality == made.mix.quality
    assert c.quality == {}
    kinds = {name: portion.kind for name, portion in made.mix.portions().items()}
    assert kinds == {"a": "unimax", "b": "natural", "c": "temperature"}
    assert Recipe.model_json_schema()["$defs"]["Mix"]["properties"]["phases"]


def test_the_signals_that_a_mixture_reads_are_measured(recipe: Callable[..., Recipe]) -> None:
    made = recipe({"domains": "language", "weights": {"en": 1, "*": 1}})
    assert "language" in signals_read(made)
    assert "language" in families_of(made, signals_read(made))[1]
    assert "language" not in signals_read(recipe({}))


def test_a_domain_that_has_too_many_values_or_no_weight_is_told(mixed: Mixed) -> None:
    with pytest.raises(InputError, match="says nothing about 'short'"):
        mixed(
            domains="CASE WHEN num_words < 60 THEN 'short' ELSE 'long' END",
            weights={"long": 1},
            budget="1K tokens",
        )


def test_draws_that_are_not_those_of_the_training_documents_are_never_committed(
    mixed: Mixed, tmp_path: Path
) -> None:
    corpus = mixed(budget="2K tokens")
    storage, tokens, draws = corpus.store.storage, corpus.shards("tokens"), corpus.shards("draws")
    drawn = corpus.manifest("mix").counts["drawn_tokens"]
    tally.check_draws(storage, tokens, draws, drawn)
    with pytest.raises(IntegrityError, match="tokens were drawn, the draws hold"):
        tally.check_draws(storage, tokens, draws, drawn + 1)
    table = read_shard(storage, draws[0])
    held = read_shard(storage, corpus.shards("held_out")[0])["doc_id"][:1]
    frame = pl.DataFrame(pl.from_arrow(table))
    broken = {
        "drawn twice": pl.concat([frame, frame[:1]]),
        "1 are of no training document": frame.with_columns(
            doc_id=pl.when(pl.int_range(pl.len()) == 0)
            .then(pl.lit(held[0].as_py(), pl.Binary))
            .otherwise("doc_id")
        ),
        "lengths differ": frame.with_columns(tokens=pl.col("tokens") + 1),
        "0 are of no training": frame.with_columns(copies=pl.lit(0, pl.Int32)),
    }
    other = Workspace(Store(str(tmp_path)), "mix")
    for message, rows in broken.items():
        with other.writer("draws") as writer:
            writer.write(rows.to_arrow().cast(SCHEMAS["draws"]))
            shard = writer.commit()
        both = _Both(storage, other.storage, shard.path)
        written = (rows["copies"] * rows["tokens"]).sum()
        with pytest.raises(IntegrityError, match=message):
            tally.check_draws(both, tokens, [shard], written)  # type: ignore[arg-type]


class _Both:
    """A storage that reads one file from another."""

    def __init__(self, first: Storage, second: Storage, path: str) -> None:
        self._first, self._second, self._path = first, second, path

    def __getattr__(self, name: str) -> Any:
        def call(path: str, *rest: Any, **more: Any) -> Any:
            storage = self._second if path == self._path else self._first
            return getattr(storage, name)(path, *rest, **more)

        return call
