"""The deduplicate pass against brute force; ranges, crowds, scopes, other versions."""

import itertools
import random
import re

import pytest

from curate.corpus.errors import InputError
from pipelines.build import run
from pipelines.corpus import why
from pipelines.passes import deduplicate, verifying

_ALL_FOUND = {"shingle": "3 words", "bands": 60, "rows": 2, "threshold": 0.6}


def _groups(lab, num_groups=12, size=5, words=40):
    """Texts of which those of a group share most words, and some are equal but for their case."""
    rows = []
    for group in range(num_groups):
        base = lab.text(group, words).split()
        for member in range(size):
            mine = list(base)
            draw = random.Random(f"{group} {member}")
            for place in draw.sample(range(words), k=draw.randint(0, 6)):
                mine[place] = f"edit{member}x{place}"
            text = " ".join(mine)
            rows.append({"id": f"{group}-{member}", "text": text.upper() if member == 4 else text})
        rows.append({"id": f"{group}-again", "text": rows[-2]["text"].title() + "\n"})
    return rows


def _shingles(text, width=3):
    words = re.findall(r"[a-z0-9]+", text.lower())
    return {tuple(words[i : i + width]) for i in range(len(words) - width + 1)}


def _truth(documents, threshold, similarity="jaccard"):
    """All edges the slow way: {(doc, twin): (kind, similarity)}."""
    rows = sorted((row["doc_id"], row["text"]) for row in documents.iter_rows(named=True))
    edges, first = {}, {}
    for doc, text in rows:
        key = " ".join(text.lower().split())
        if key in first:
            edges[doc, first[key]] = ("exact", 1.0)
        else:
            first[key] = doc
    ones = sorted((doc, _shingles(text)) for text, doc in first.items())
    for (twin, a), (doc, b) in itertools.combinations(ones, 2):
        whole = len(a | b) if similarity == "jaccard" else min(len(a), len(b))
        if whole and len(a & b) / whole >= threshold:
            edges[doc, twin] = ("near", len(a & b) / whole)
    return edges


def _edges(lab, corpus):
    return {
        (row["doc_id"], row["twin_id"]): (row["kind"], row["jaccard"])
        for row in lab.frame(corpus, "duplicates").iter_rows(named=True)
    }


def _run(lab, folder, store="store", **sections):
    lab.run(lab.recipe(folder, **sections), folder / store)
    return lab.open("tiny", store=str(folder / store))


@pytest.mark.parametrize("similarity", ["jaccard", "containment"])
def test_edges_equal_brute_force(lab, tmp_path, similarity):
    rows = _groups(lab)
    rows += [{"id": "long", "text": f"{lab.text(900, 60)} {rows[0]['text']} {lab.text(901, 60)}"}]
    rows += [{"id": f"short{i}", "text": text} for i, text in enumerate(["", "a b", "a  B", "?!"])]
    lab.jsonl(tmp_path / "a.jsonl", rows)
    near = {**_ALL_FOUND, "bands": 200, "rows": 1, "similarity": similarity}
    corpus = _run(lab, tmp_path, deduplicate={"near": near})
    truth = _truth(lab.frame(corpus, "documents"), 0.6, similarity)
    assert _edges(lab, corpus) == truth
    assert {kind for kind, _ in truth.values()} == {"exact", "near"}
    lab.check_laws(corpus)


def test_clusters_are_the_components_of_the_edges(lab, tmp_path):
    lab.jsonl(tmp_path / "a.jsonl", _groups(lab))
    corpus = _run(lab, tmp_path, deduplicate={"near": _ALL_FOUND})
    label = {}
    for edge in _edges(lab, corpus):
        for doc in edge:
            label.setdefault(doc, doc)
    for _ in label:
        for doc, twin in _edges(lab, corpus):
            label[doc] = label[twin] = min(label[doc], label[twin])
    for row in lab.frame(corpus, "duplicates").iter_rows(named=True):
        assert row["cluster_id"] == label[row["doc_id"]]
        assert row["cluster_size"] == list(label.values()).count(row["cluster_id"])
    counts = corpus.manifest("deduplicate").counts
    assert counts["clusters"] == len(set(label.values()))
    assert counts["clustered_documents"] == len(label)


def test_the_size_of_a_range_leaves_no_trace(lab, tmp_path, monkeypatch):
    lab.jsonl(tmp_path / "a.jsonl", _groups(lab))
    sections = {"deduplicate": {"near": _ALL_FOUND}, "collect": {"part_bytes": 2000}}
    whole = _run(lab, tmp_path, **sections)
    monkeypatch.setattr(deduplicate, "_MAX_BYTES", 4000)
    monkeypatch.setattr(verifying, "_PAIRS_AT_ONCE", 5)
    monkeypatch.setattr("curate.dedup.candidates.BLOCK_PAIRS", 7)
    sections["deduplicate"] |= {"partition_rows": 37}
    cut = _run(lab, tmp_path, "other", **sections)
    assert len(cut.shards("duplicates")) > 1
    assert _edges(lab, cut) == _edges(lab, whole)
    same = ("exact", "near", "candidates", "clusters", "largest_cluster")
    counts = [corpus.manifest("deduplicate").counts for corpus in (whole, cut)]
    assert [counts[0][name] for name in same] == [counts[1][name] for name in same]
    assert (
        lab.frame(cut, "verdicts")
        .sort("doc_id")
        .equals(lab.frame(whole, "verdicts").sort("doc_id"))
    )


def test_a_crowd_has_one_survivor_whoever_the_rules_drop(lab, tmp_path):
    rows = [{"id": f"n{i}", "text": f"{lab.text(5, 200)} {'x' * (i + 1)}"} for i in range(60)]
    rows += [{"id": f"m{i}", "text": f"{lab.text(6, 200)} {'y' * (900 + i)}"} for i in range(3)]
    lab.jsonl(tmp_path / "a.jsonl", rows)
    near = {"max_bucket": 4, "sample": 0}
    open_ = _run(lab, tmp_path, deduplicate={"near": near})
    counts = open_.manifest("deduplicate").counts
    assert counts["hot_documents"] == 60
    assert counts["crowded_buckets"] > 0
    assert counts["near"] < 60 * 59 // 2
    verdicts = lab.frame(open_, "verdicts")
    assert verdicts["kept"].sum() == 2
    assert open_.manifest("judge").counts["crowded_unverified"] == 0
    # The documents all others are linked to are the first by id: drop them.
    ids = sorted(lab.frame(open_, "documents").filter(~_starts("key", "m"))["doc_id"])
    gone = " OR ".join(f"num_bytes = {n}" for n in _bytes_of(lab, open_, ids[:30]))
    strict = _run(
        lab,
        tmp_path,
        deduplicate={"near": near},
        rules={"add": {"unlucky": f"NOT ({gone})" if gone else "num_words > 0"}},
    )
    verdicts = lab.frame(strict, "verdicts")
    standing = verdicts.filter(~verdicts["reasons"].list.contains("rule:recipe.unlucky"))
    assert verdicts["kept"].sum() == 2
    assert len(standing) > 20, "there was somebody to choose from"
    # Every removal has its verified edge, and `why` shows it.
    found = _edges(lab, strict)
    hidden = 0
    for row in standing.filter(~standing["kept"]).iter_rows(named=True):
        pair = (row["doc_id"], row["kept_id"])
        if pair in found or pair[::-1] in found:
            continue
        hidden += 1
        if hidden == 1:
            life = why(strict, row["doc_id"])
            edge = next(e for e in life["duplicates"] if e["other_id"] == row["kept_id"])
            assert edge["jaccard"] >= 0.8
    assert hidden, "some edges were verified on demand"


def _alike(lab, num_groups=3, size=30, words=120):
    """Groups in which some pairs are duplicates and others just are not."""
    rows = []
    for group in range(num_groups):
        base = lab.text(2000 + group, words).split()
        for member in range(size):
            draw = random.Random(f"alike {group} {member}")
            mine = list(base)
            for place in draw.sample(range(words), k=draw.randint(0, 7)):
                mine[place] = f"edit{group}x{member}x{place}"
            rows.append({"id": f"{group}-{member}", "text": " ".join(mine)})
    random.Random(3).shuffle(rows)
    return rows


_SURE = {"shingle": "3 words", "bands": 60, "rows": 2, "threshold": 0.75, "sample": 0}


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"scope": "within_source"},
        {"scope": "across_sources"},
        {"exempt": ["b"]},
        {"priority": ["b", "a"], "scope": "across_sources", "exempt": ["a"]},
    ],
)
def test_crowds_change_no_verdict(lab, tmp_path, asked):
    rows = _alike(lab)
    lab.jsonl(tmp_path / "a.jsonl", rows[:55])
    lab.jsonl(tmp_path / "b.jsonl", rows[55:])
    sources = [{"name": name, "paths": [f"{name}.jsonl"]} for name in ("a", "b")]
    verdicts = []
    for max_bucket in (100_000, 4):
        near = {**_SURE, "max_bucket": max_bucket}
        corpus = _run(
            lab,
            tmp_path,
            f"store{max_bucket}",
            sources=sources,
            deduplicate={"near": near, **asked},
            rules={"add": {"lucky": "num_bytes % 5 <> 1"}},
        )
        verdicts.append(lab.frame(corpus, "verdicts").sort("doc_id"))
    assert corpus.manifest("deduplicate").counts["crowded_buckets"] > 0
    assert verdicts[0]["kept"].sum() < 60
    assert verdicts[0]["kept"].to_list() == verdicts[1]["kept"].to_list()


def test_crowds_shared_with_another_corpus_change_no_verdict(lab, tmp_path):
    rows = _alike(lab)
    lab.jsonl(tmp_path / "old.jsonl", rows[:30])
    lab.jsonl(tmp_path / "new.jsonl", rows[30:])
    kept = []
    for max_bucket in (100_000, 4):
        near, store = {**_SURE, "max_bucket": max_bucket}, tmp_path / f"store{max_bucket}"
        for name, against in (("old", None), ("new", "old@1")):
            recipe = lab.recipe(
                tmp_path,
                name=name,
                sources=[{"name": "s", "paths": [f"{name}.jsonl"]}],
                deduplicate={"near": near, "against": against},
                split={"validation": 0.0, "test": 0.0},
            )
            lab.run(recipe, store)
        kept.append(_kept(lab, lab.open("new", store=str(store))))
    assert 0 < len(kept[0]) < 40
    assert kept[0] == kept[1]


def _starts(column, prefix):
    import polars as pl

    return pl.col(column).str.starts_with(prefix)


def _bytes_of(lab, corpus, ids):
    verdicts = lab.frame(corpus, "verdicts")
    return sorted(set(verdicts.filter(verdicts["doc_id"].is_in(ids))["num_bytes"].to_list()))


def _two_sources(lab, folder):
    for name, count in (("a", 6), ("b", 4)):
        rows = [{"id": f"{name}{i}", "text": lab.text(i)} for i in range(count)]
        rows += [{"id": f"{name}twin", "text": lab.near(0)}]
        lab.jsonl(folder / f"{name}.jsonl", rows)
    return [{"name": name, "paths": [f"{name}.jsonl"]} for name in ("a", "b")]


def _kept(lab, corpus):
    documents, verdicts = (lab.frame(corpus, name) for name in ("documents", "verdicts"))
    joined = documents.join(verdicts, on="doc_id")
    return set(joined.filter("kept")["key"])


def test_scopes_priorities_and_exemptions(lab, tmp_path):
    sources = _two_sources(lab, tmp_path)

    def kept(**asked):
        store = "-".join(sorted(asked)) + str(sorted(map(str, asked.values())))
        near = {"near": {"sample": 0}, "keep": "doc_id"}
        return _kept(
            lab, _run(lab, tmp_path, store, sources=sources, deduplicate={**near, **asked})
        )

    assert len(kept()) == 6
    first = kept(priority=["b"])
    assert {name for name in first if name.startswith("b")} >= {"b1", "b2", "b3"}
    assert {name for name in first if name.startswith("a")} == {"a4", "a5"}
    within = kept(scope="within_source")
    assert {"a1", "a2", "a3", "a4", "a5", "b1", "b2", "b3"} < within
    assert len(within) == 10
    # Remove from a what b has, and leave b alone.
    alone = kept(scope="across_sources", exempt=["b"])
    assert alone == {"a4", "a5", "b0", "b1", "b2", "b3", "btwin"}
    spared = kept(exempt=["a"])
    assert spared == {f"a{i}" for i in range(6)} | {"atwin"}


def test_sources_that_do_not_exist_are_refused(lab, tmp_path):
    sources = _two_sources(lab, tmp_path)
    for key in ("priority", "exempt"):
        with pytest.raises(InputError, match=f"deduplicate.{key} names the source 'bb'"):
            lab.recipe(tmp_path, sources=sources, deduplicate={key: ["bb"]})


def test_against_an_earlier_version_only_what_is_new_is_kept(lab, tmp_path):
    old = [{"id": f"o{i}", "text": lab.text(i)} for i in range(8)]
    old += [{"id": "tiny", "text": "too short"}]
    lab.jsonl(tmp_path / "a.jsonl", old)
    rules = {"add": {"long": "num_words > 20"}}
    first = _run(lab, tmp_path, rules=rules)
    before = lab.snapshot(tmp_path / "store")
    new = [{"id": f"n{i}", "text": lab.text(i)} for i in range(6, 12)]
    new += [{"id": "near", "text": lab.near(2)}, {"id": "short", "text": "Too  short"}]
    new += [{"id": "nearer", "text": lab.near(11)}]
    lab.jsonl(tmp_path / "new" / "b.jsonl", new)
    recipe = lab.recipe(
        tmp_path,
        sources=[{"name": "more", "paths": ["new/*.jsonl"]}],
        name="next",
        deduplicate={"against": "tiny@1"},
    )
    lab.run(recipe, tmp_path / "store")
    corpus = lab.open("next", store=str(tmp_path / "store"))
    joined = lab.frame(corpus, "documents").join(lab.frame(corpus, "verdicts"), on="doc_id")
    fate = {row["key"]: (row["kept"], row["reasons"]) for row in joined.iter_rows(named=True)}
    assert fate["n6"] == fate["n7"] == (False, ["duplicate:exact"])
    assert fate["near"] == (False, ["duplicate:near"])
    assert fate["short"][0], "the old version has not kept its twin"
    assert [fate[f"n{i}"][0] for i in (8, 9, 10)] == [True] * 3
    assert fate["n11"][0] + fate["nearer"][0] == 1
    old_ids = set(lab.frame(first, "documents")["doc_id"])
    gone = joined.filter(~joined["kept"] & (joined["key"] != "n11") & (joined["key"] != "nearer"))
    assert set(gone["kept_id"]) <= old_ids
    duplicates = lab.frame(corpus, "duplicates")
    assert set(duplicates.filter(duplicates["twin_corpus"].is_not_null())["twin_id"]) <= old_ids
    after = lab.snapshot(tmp_path / "store")
    assert {name: after[name] for name in before} == before, "the old version is as it was"
    assert lab.run(recipe, tmp_path / "store")[0].executed == 0


def test_against_what_is_not_there_is_refused_before_any_work(lab, tmp_path):
    lab.jsonl(tmp_path / "a.jsonl", [{"text": lab.text(0)}])
    for name, message in (("tiny", "is this corpus itself"), ("other", "no corpus 'other'")):
        recipe = lab.recipe(tmp_path, deduplicate={"against": name})
        with pytest.raises(InputError, match=message):
            lab.run(recipe, tmp_path / "store")
        assert not (tmp_path / "store" / "collect").exists()


def test_a_giant_document_is_capped_and_told(lab, tmp_path):
    giant = " ".join(lab.text(i, 400) for i in range(6))
    rows = [{"id": "one", "text": giant}, {"id": "two", "text": giant + " " + lab.text(77, 300)}]
    lab.jsonl(tmp_path / "a.jsonl", [*rows, *({"text": lab.text(i)} for i in range(20))])
    near = {"max_document_bytes": 5000, "sample": 0}
    corpus = _run(lab, tmp_path, deduplicate={"near": near})
    counts = corpus.manifest("deduplicate").counts
    assert counts["capped_documents"] == 2
    assert counts["near"] == 1
    assert corpus.manifest("deduplicate").info["scheme"]["shingling"]["max_document_bytes"] == 5000


def test_giants_with_one_beginning_and_two_ends_both_stay(lab, tmp_path):
    start = " ".join(lab.text(i, 400) for i in range(4))
    rows = [{"id": f"{i}", "text": f"{start} {lab.text(50 + i, 2000)}"} for i in range(2)]
    lab.jsonl(tmp_path / "a.jsonl", [*rows, *({"text": lab.text(i)} for i in range(90, 110))])
    near = {"max_document_bytes": 5000, "sample": 0}
    corpus = _run(lab, tmp_path, deduplicate={"near": near})
    counts = corpus.manifest("deduplicate").counts
    assert (counts["capped_documents"], counts["candidates"], counts["near"]) == (2, 1, 0)


@pytest.mark.parametrize(
    ("name", "bands", "rows"), [("datatrove", 14, 8), ("nemo", 20, 13), ("dolma3", 26, 11)]
)
def test_another_tools_scheme_is_recorded_and_finds_twins(lab, tmp_path, name, bands, rows):
    lab.jsonl(tmp_path / "a.jsonl", [{"text": lab.text(1)}, {"text": lab.text(1) + " x"}])
    near = {"like": name, "threshold": 0.8}
    corpus = _run(lab, tmp_path, deduplicate={"near": near})
    info = corpus.manifest("deduplicate").info
    assert (info["scheme"]["bands"], info["scheme"]["rows"]) == (bands, rows)
    assert corpus.manifest("deduplicate").counts["near"] == 1
    with pytest.raises(InputError, match=f"like: {name} decides bands"):
        lab.recipe(tmp_path, deduplicate={"near": {"like": name, "bands": 3}})


def test_an_added_file_sketches_itself_alone(lab, tmp_path):
    lab.jsonl(tmp_path / "a.jsonl", _groups(lab, 4))
    recipe = lab.recipe(tmp_path, deduplicate={"near": {**_ALL_FOUND, "sample": 0}})
    lab.run(recipe, tmp_path / "store")
    lab.jsonl(tmp_path / "b.jsonl", [{"text": lab.text(500)}, {"text": lab.near(0)}])
    stages = []
    run(recipe, store=str(tmp_path / "store"), until="deduplicate", observe=stages.append)
    sketched = [e for e in stages if e.name == "deduplicate" and e.stage == "sketch"]
    assert sketched[-1].total - sketched[0].reused == 1
