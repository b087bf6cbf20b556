"""How records are cut into files, and in which order they come, decides no duplicate."""

import random

import polars as pl
import pytest

from pipelines.passes import measured

_NEAR = {"shingle": "3 words", "threshold": 0.6, "max_bucket": 3, "sample": 40}


def _records(lab):
    """Return groups of edited, equal and strange texts, each with a key of its own."""
    rows = []
    for group in range(14):
        words = lab.text(group, 50).split()
        for member in range(9):
            mine = list(words)
            for place in random.Random(f"{group} {member}").sample(range(50), k=member // 3):
                mine[place] = f"edit{member}x{place}"
            rows.append({"id": f"{group}-{member}", "text": " ".join(mine)})
        rows.append({"id": f"{group}-again", "text": rows[-1]["text"].upper()})
    rows += [{"id": f"s{k}", "text": lab.text(500 + k, 50)} for k in range(40)]
    return rows


def _run(lab, folder, files):
    for number, rows in enumerate(files):
        lab.jsonl(folder / f"{number}.jsonl", rows)
    recipe = lab.recipe(folder, deduplicate={"near": _NEAR, "guardrails": {"source_loss": None}})
    outcome, _ = lab.run(recipe, folder / "store", until="judge")
    return outcome.manifests


def _rows(lab, folder, manifest, table, columns):
    frames = [
        pl.read_parquet(folder / "store" / shard.path, columns=columns)
        for shard in manifest.tables[table]
    ]
    return pl.concat(frames).sort("doc_id", *(c for c in columns if c == "twin_id"))


@pytest.fixture(scope="module")
def whole(lab, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder, _run(lab, folder, [_records(lab)])


@pytest.fixture(autouse=True, scope="module")
def _some_are_probed():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measured, "PROBE_BYTES", 20_000)
        yield


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("num_files", [3, 11])
def test_any_split_and_order_of_the_records_gives_the_same_duplicates(
    lab, tmp_path, whole, num_files, seed
):
    rows = _records(lab)
    random.Random(seed).shuffle(rows)
    found = _run(lab, tmp_path, [rows[k::num_files] for k in range(num_files)])
    folder, expected = whole
    edges = ["doc_id", "twin_id", "kind", "jaccard", "cluster_id", "cluster_size"]
    verdicts = ["doc_id", "kept", "reasons", "kept_id", "cluster_id", "split"]
    for name, table, columns in [
        ("deduplicate", "duplicates", edges),
        ("judge", "verdicts", verdicts),
    ]:
        here = _rows(lab, tmp_path, found[name], table, columns)
        there = _rows(lab, folder, expected[name], table, columns)
        assert here.equals(there)
    assert found["deduplicate"].counts == expected["deduplicate"].counts
    assert found["deduplicate"].info["measured"] == expected["deduplicate"].info["measured"]


def test_the_split_corpus_has_what_could_go_wrong(whole):
    counts = whole[1]["deduplicate"].counts
    rates = whole[1]["deduplicate"].info["measured"]
    assert counts["exact"] >= 14
    assert counts["near"] > 100
    assert min(counts["hot_buckets"], counts["hot_documents"], counts["crowded_buckets"]) > 0
    assert rates["sampled_documents"] == 40 < rates["probed_documents"] < 180
    assert rates["recall"] > 0.5
    assert rates["precision"] == 1.0
