"""What a report says of near-duplicates: how they were found, and how well, also in old stores."""

import dataclasses
import json
import types
from typing import Any

import pytest

from curate.corpus.manifest import Manifest
from pipelines.console import show_outcome
from pipelines.report import build_report, summary
from pipelines.report.near import crowded, near_duplicates, told

NEAR = {"shingle": "5 words", "bands": 16, "rows": 7, "threshold": 0.8, "similarity": "jaccard"}
SHINGLING = {
    "unit": "words",
    "width": 5,
    "numbers": "zero",
    "hash": "mix64",
    "normaliser": "preceptor",
    "max_document_bytes": 8_000_000,
}
SCHEME = {"shingling": SHINGLING, "bands": 14, "rows": 8, "seed": 1, "scheme": "affine32"}
MEASURED = {
    "sampled_documents": 1024,
    "probed_documents": 5000,
    "true_pairs": 823,
    "found_pairs": 700,
    "recall": 0.8505,
    "recall_low": 0.82,
    "recall_high": 0.88,
    "checked_edges": 200,
    "correct_edges": 200,
    "precision": 1.0,
    "precision_low": 0.9817,
    "precision_high": 1.0,
    "confidence": 0.95,
}


def manifest(near: dict[str, Any] | None = NEAR, **info: Any) -> Manifest:
    return Manifest(
        name="deduplicate",
        settings={"exact": True, "near": near},
        code="",
        parents={},
        tables={},
        counts={},
        info=info,
    )


def test_the_scheme_that_ran_is_told_not_the_one_that_was_asked() -> None:
    found = near_duplicates(manifest(scheme=SCHEME, against={"corpus": "base@3"}))
    assert found is not None
    assert dict(found["scheme"]) == {
        "Compared by": "shingles of 5 words; every number counts as 0",
        "Hashed by": "mix64 after the normaliser of preceptor",
        "Candidates": "14 bands x 8 rows = 112 permutations (affine32, seed 1)",
        "Verified by": "exact Jaccard of the shingle sets, at least 0.8",
        "Long documents": "looked for by their first 8.00 MB",
    }
    assert found["against"] == "base@3"
    assert found["s_curve"]["at_threshold"] == pytest.approx(0.9236, abs=1e-4)
    assert found["measured"] == []


def test_a_containment_threshold_has_no_place_on_a_curve_over_the_jaccard() -> None:
    found = near_duplicates(manifest({**NEAR, "similarity": "containment", "like": "nemo"}))
    assert found is not None
    assert found["s_curve"]["threshold"] is None
    assert dict(found["scheme"])["Verified by"].startswith("exact containment of")
    assert dict(found["scheme"])["Like"].startswith("nemo")


@pytest.mark.parametrize(
    "info",
    [
        {},
        {"scheme": None, "measured": None, "against": None, "s_curve": []},
        {"scheme": {"shingle_words": 5, "bands": 14, "rows": 8, "hash": "mix64"}},
        {"measured": {"recall": None, "precision": None, "sampled_documents": 0}},
        {"measured": {"recall": 0.9}},
    ],
)
def test_an_older_store_is_told_as_far_as_it_goes(info: dict[str, Any]) -> None:
    found = near_duplicates(manifest(**info))
    assert found is not None
    assert "near-duplicates (5 words, " in told(found, {})
    assert near_duplicates(manifest(None, **info)) is None


def test_a_curve_without_its_bands_is_drawn_through_the_points_there_are() -> None:
    found = near_duplicates(manifest({"threshold": 0.7}, s_curve=[[0.5, 0.1], [1.0, 1.0]]))
    assert found is not None
    assert found["s_curve"]["at_threshold"] == pytest.approx(0.46)
    assert found["s_curve"]["points"] == [[0.5, 0.1], [1.0, 1.0]]


def test_the_line_for_a_terminal_has_both_intervals() -> None:
    found = near_duplicates(manifest(scheme=SCHEME, measured=MEASURED))
    assert found is not None
    assert told(found, {"candidates": 1200, "near": 900}) == (
        "near-duplicates (5 words, 14 bands x 8 rows, Jaccard >= 0.8): 1,200 pairs compared, 900 "
        "verified; measured here: recall 85.0 % (82.0 % to 88.0 %), precision 100.0 % (98.2 % to "
        "100.0 %)"
    )


def test_a_recall_of_nothing_is_told_as_nothing_to_measure() -> None:
    none = dict.fromkeys(("recall", "recall_low", "recall_high"))
    for more in ({}, dict.fromkeys(("precision", "precision_low", "precision_high"))):
        found = near_duplicates(manifest(scheme=SCHEME, measured={**MEASURED, **none, **more}))
        assert found is not None
        line = told(found, {})
        assert "; measured here: no recall (the sampled documents have no near-duplicates)" in line
        assert ("precision 100.0 %" in line) == (not more)


def test_documents_of_crowds_that_nobody_compared_are_told(
    lab: Any, archive_store: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert crowded({}) is crowded({"crowded_unverified": 0}) is None
    assert str(crowded({"crowded_unverified": 1})).startswith("1 document of large groups")
    corpus = lab.open("tiny", store=str(archive_store))
    made = {name: corpus.manifest(name) for name in ("deduplicate", "judge")}
    for count in (0, 1234):
        judged = dataclasses.replace(
            made["judge"], counts={**made["judge"].counts, "crowded_unverified": count}
        )
        corpus._manifests["judge"] = judged
        for alerts in (summary(corpus)["alerts"], build_report(corpus).data["alerts"]):
            told_of = [one for one in alerts if "deduplicate.near.max_bucket" in one["text"]]
            assert len(told_of) == (count > 0)
        outcome = types.SimpleNamespace(
            manifests={"judge": judged}, version=None, seconds=1.0, executed=1, published=False
        )
        show_outcome(outcome, str(archive_store))
        line = "warning: 1,234 documents of large groups of similar ones could not be compared"
        assert (line in capsys.readouterr().out) == (count > 0)


def _opened(lab: Any, store: Any, **changes: Any) -> Any:
    corpus = lab.open("tiny", store=str(store))
    made = corpus.manifest("deduplicate")
    corpus._manifests["deduplicate"] = dataclasses.replace(made, **changes)
    return corpus


def test_the_page_shows_the_curve_the_counts_and_what_was_measured(
    lab: Any, archive_store: Any
) -> None:
    made = lab.open("tiny", store=str(archive_store)).manifest("deduplicate")
    more = {"hot_buckets": 12, "hot_documents": 40211, "capped_documents": 3}
    lines = {"lines_repeated": 120, "documents_cut": 80, "bytes_cut": 123456}
    corpus = _opened(
        lab,
        archive_store,
        counts={**made.counts, **more, **lines},
        info={**made.info, "scheme": SCHEME, "measured": MEASURED, "against": "base@3"},
    )
    report = build_report(corpus)
    near = report.data["duplicates"]["near"]
    assert json.loads(json.dumps(near)) == near
    assert {row["what"]: (row["low"], row["high"]) for row in near["measured"]} == {
        "recall": (0.82, 0.88),
        "precision": (0.9817, 1.0),
    }
    for words in (
        "14 bands x 8 rows = 112 permutations",
        "82.0 % to 88.0 %",
        "700 of 823 true pairs found",
        "200 of 200 edges counted again",
        "Probability of comparison against Jaccard similarity",
        "12 over the cap, with 40,211 documents",
        "also base@3, whose documents stay",
        "120 lines are repeated",
        "123 kB",
    ):
        assert words in report.html, words
    alerts = " ".join(alert["text"] for alert in report.data["alerts"])
    assert "The recall of near-duplicates, measured on this corpus, is 85.0 %" in alerts
    assert "3 documents were so long" in alerts
    assert "precision" not in alerts
    assert summary(corpus)["near_duplicates"]["measured"] == near["measured"]


def test_a_page_without_any_of_it_is_whole(lab: Any, archive_store: Any) -> None:
    for near in (None, {"threshold": 0.8}):
        corpus = _opened(
            lab, archive_store, settings={"exact": False, "near": near}, counts={}, info={}
        )
        page = build_report(corpus).html
        assert ("Near-duplicates were not looked for" in page) == (near is None)
        assert "Measured on this corpus" not in page
