"""The first acceptance run: real files with known counts become a corpus that explains itself."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.build import Outcome, plan, run
from pipelines.corpus import Corpus, open_corpus, why
from pipelines.recipe import parse_recipe
from pipelines.verify import verify

DBLP_ACM = {"delimiter": "%", "columns": {"text": ["title", "authors"], "key": "id"}}
# source -> file, records as the data's README counts them, and what its source needs. The README
# counts the lines of the two banking77 files (10,016 and 3,084); some records hold line ends, so
# there are 10,003 and 3,080.
SOURCES: dict[str, tuple[str, int, dict[str, Any]]] = {
    "code_python": ("text/code_python.parquet", 2234, {}),
    "docs_peps": ("text/docs_peps.parquet", 347, {}),
    "docs_tldr": ("text/docs_tldr.jsonl.gz", 10_896, {}),
    "gov_speeches_us": ("text/gov_speeches_us.jsonl.gz", 124, {}),
    "multilingual_udhr": ("text/multilingual_udhr.jsonl.zst", 528, {}),
    "prose_eltec_eng": ("text/prose_eltec_eng.jsonl.zst", 859, {}),
    "banking77_test": ("text/support_banking77_test.csv.gz", 3080, {}),
    "banking77_train": ("text/support_banking77_train.csv.gz", 10_003, {}),
    "licenses": ("neardup/licenses.jsonl.zst", 1495, {}),
    "pep_revisions": ("neardup/pep_revisions.jsonl.zst", 893, {}),
    "acm": ("neardup/dblp_acm/acm.csv.gz", 2294, DBLP_ACM),
    "dblp": ("neardup/dblp_acm/dblp.csv.gz", 2616, DBLP_ACM),
    "commoncrawl": ("web/commoncrawl_text_sample.jsonl.gz", 50, {}),
}
BENCHMARKS: dict[str, tuple[str, list[str], int]] = {
    "gsm8k": ("benchmarks/gsm8k_test.jsonl.gz", ["question", "answer"], 1319),
    "humaneval": ("benchmarks/HumanEval.jsonl.gz", ["prompt", "canonical_solution"], 164),
    "mmlu": ("benchmarks/mmlu_test.jsonl.gz", ["question"], 14_042),
    "bbh": ("benchmarks/bbh.jsonl.gz", ["input"], 6511),
    "arc": ("benchmarks/arc_validation.jsonl.gz", ["question"], 869),
}
FEW = ["banking77_test", "gov_speeches_us", "licenses", "acm", "commoncrawl"]
FEW_BENCHMARKS = ["gsm8k", "humaneval"]


def curate(
    data: Path, store: Path, sources: list[str], benchmarks: list[str], vocab_size: int
) -> Outcome:
    """Run the acceptance recipe on some of the sources."""
    against = [
        {"name": name, "paths": [str(data / BENCHMARKS[name][0])], "columns": BENCHMARKS[name][1]}
        for name in benchmarks
    ]
    recipe = {
        "name": "shared",
        "seed": 7,
        "sources": [
            {"name": name, "paths": [str(data / SOURCES[name][0])], **SOURCES[name][2]}
            for name in sources
        ],
        "rules": {"add": {"long_enough": "num_words >= 5"}},
        "deduplicate": {"guardrails": {"source_loss": None}},
        "decontaminate": {"against": against},
        "tokenize": {"tokenizer": {"train": "bpe", "vocab_size": vocab_size}},
    }
    parsed = parse_recipe(yaml.safe_dump(recipe))
    outcome = run(parsed, store=str(store))
    assert {step.state for step in plan(parsed, store=str(store))} == {"done"}
    return outcome


def check(outcome: Outcome, corpus: Corpus, sources: list[str], benchmarks: list[str]) -> None:
    """Compare the corpus with the counts that are known, and have it explain itself."""
    found = corpus.table("documents").group_by("source").len().collect()
    assert dict(found.rows()) == {name: SOURCES[name][1] for name in sources}
    assert outcome.manifests["collect"].counts["quarantined"] == 0
    items = {
        row["benchmark"]: row["items"] for row in corpus.manifest("decontaminate").info["coverage"]
    }
    assert items == {name: BENCHMARKS[name][2] for name in benchmarks}
    assert verify(corpus) == []
    verdicts = corpus.table("verdicts").collect()
    explain_kept(corpus, verdicts.filter("kept", split="train")["doc_id"][0])
    explain_dropped(corpus, verdicts.filter(~verdicts["kept"] & verdicts["kept_id"].is_not_null()))


def explain_kept(corpus: Corpus, doc_id: str) -> None:
    """A kept document: where it is from, what was measured, which rows of the plan read it."""
    life = why(corpus, doc_id)
    assert life["document"]["path"]
    assert life["verdict"]["reasons"] == []
    assert life["verdict"]["margins"]["rule:recipe.long_enough"] >= 0
    assert life["signals"]["num_words"] >= 5
    assert life["tokens"]["tokens"] > 2
    assert [draw["copies"] for draw in life["draws"]] == [1]
    assert life["rows"]


def explain_dropped(corpus: Corpus, dropped: Any) -> None:
    """A dropped near-duplicate: why it went, and who speaks for it."""
    near = dropped.filter(dropped["reasons"].list.contains("duplicate:near"))
    life = why(corpus, near["doc_id"][0])
    assert "duplicate:near" in life["verdict"]["reasons"]
    assert max(edge["jaccard"] for edge in life["duplicates"]) >= 0.8
    (spokesman,) = corpus.rows("verdicts", life["verdict"]["kept_id"])
    assert spokesman["kept"]
    assert life["tokens"] is None
    assert life["rows"] == []


def test_some_shared_files_become_a_corpus_with_the_counts_of_their_readme(
    shared_data: Path, tmp_path: Path
) -> None:
    outcome = curate(shared_data, tmp_path, FEW, FEW_BENCHMARKS, 1024)
    check(outcome, open_corpus("shared", store=str(tmp_path)), FEW, FEW_BENCHMARKS)


@pytest.mark.slow
def test_all_shared_files_become_a_corpus_with_the_counts_of_their_readme(
    shared_data: Path, tmp_path: Path
) -> None:
    outcome = curate(shared_data, tmp_path, list(SOURCES), list(BENCHMARKS), 8192)
    corpus = open_corpus("shared", store=str(tmp_path))
    check(outcome, corpus, list(SOURCES), list(BENCHMARKS))
    counts = outcome.manifests["judge"].counts
    assert sum(SOURCES[name][1] for name in SOURCES) == counts["documents"] == 35_419
