"""Is it safe to train on, and what is in it: what the report says is what the tables hold."""

from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from pipelines.report import build_report, safety
from pipelines.report.facts import load_facts
from pipelines.report.whatif import pages_data, what_if

WHERE = ["https://Www.One.example:80/a", "http://me:pw@two.example/b", "ftp://two.example", None]


@pytest.fixture(scope="module")
def corpus(lab: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("safety")
    rows = [
        {
            "text": lab.text(i) + (f" write to a{i}@mail.org or b{i}@mail.org" if i % 3 else ""),
            "url": WHERE[i % 4],
            "license": "MIT" if i % 2 else None,
        }
        for i in range(40)
    ]
    rows += [{"text": f"a short one for c@mail.org {'x' * i}"} for i in range(3)]
    lab.jsonl(folder / "notes.jsonl", rows)
    columns = {"text": "text", "url": "url", "license": "license"}
    recipe = lab.recipe(
        folder,
        sources=[{"name": "notes", "paths": ["notes.jsonl"], "columns": columns}],
        clean={"redact": ["email", "ip"]},
        rules={
            "add": {
                "long_enough": "num_words >= 20 AND num_chars % 5 > 0",
                "odd": "num_words % 2 >= 0",
            },
            "on_null": "keep",
        },
        checks={"few": {"sql": "SELECT COUNT(*) FROM verdicts", "equals": 0}},
    )
    lab.run(recipe, folder / "store")
    return lab.open("tiny", store=str(folder / "store"))


def _found(monkeypatch: pytest.MonkeyPatch, corpus: Any, results: Any) -> Any:
    monkeypatch.setattr(safety, "results_of", lambda one: results)
    return build_report(corpus)


def test_personal_data_is_counted_in_the_kept_documents_per_million_tokens(
    monkeypatch: pytest.MonkeyPatch, corpus: Any
) -> None:
    data = _found(monkeypatch, corpus, None).data
    rows = {row["kind"]: row for row in data["safety"]["personal"]}
    kept = corpus.table("verdicts").filter("kept").select("doc_id")
    masked = corpus.table("revisions").filter(pl.col("kind") == "email")
    there = masked.join(kept, on="doc_id", how="semi").collect()
    assert rows["email"]["matches"] == there["count"].sum() == 2 * rows["email"]["documents"]
    assert there.height < masked.collect().height, "what was dropped does not count"
    tokens = data["corpus"]["tokens"]
    assert rows["email"]["per_million"] == pytest.approx(1e6 * there["count"].sum() / tokens)
    assert rows["ip"]["matches"] == 0


def test_what_was_not_looked_for_is_unknown_and_never_good(
    monkeypatch: pytest.MonkeyPatch, corpus: Any
) -> None:
    report = _found(monkeypatch, corpus, None)
    states = {answer["about"]: answer["state"] for answer in report.data["safety"]["answers"]}
    assert states == {
        "Checks": "unknown",
        "Contamination": "unknown",
        "Personal data": "good",
        "Licences": "warning",
    }
    assert "The recipe has 1, not yet run" in report.html


def test_a_check_that_fails_is_the_first_thing_to_see_and_its_text_does_nothing(
    monkeypatch: pytest.MonkeyPatch, corpus: Any
) -> None:
    check = {"sql": "SELECT '<script>x</script>'", "wanted": 0, "message": "3 \u202e were found"}
    results = [
        {"name": "leaks", "passed": False, "found": [["<b>"], 3], **check},
        {"name": "fine", "passed": True, "found": 0, **check},
    ]
    report = _found(monkeypatch, corpus, results)
    answer = report.data["safety"]["answers"][0]
    assert (answer["state"], answer["text"]) == ("warning", "1 of 2 fail: leaks.")
    assert report.data["alerts"][0]["text"] == "Checks fail: leaks."
    assert "&lt;script&gt;x&lt;/script&gt;" in report.html
    assert "<script>x" not in report.html
    assert "\u202e" not in report.html


def test_domains_are_the_hosts_of_kept_documents(
    monkeypatch: pytest.MonkeyPatch, corpus: Any
) -> None:
    domains = _found(monkeypatch, corpus, None).data["contents"]["domains"]
    kept = dict(corpus.table("verdicts").select("doc_id", "kept").collect().rows())
    urls = corpus.table("documents").select("doc_id", "url").collect().rows()
    there = [url for doc_id, url in urls if url and kept[doc_id]]
    counted = {row["host"]: row["documents"] for row in domains["rows"]}
    assert counted == {
        name: sum(name in url.lower() for url in there) for name in ("one.example", "two.example")
    }
    assert domains["documents"] == len(there)


def test_a_rule_without_a_threshold_can_only_be_switched_off(
    monkeypatch: pytest.MonkeyPatch, corpus: Any
) -> None:
    found = _found(monkeypatch, corpus, None).data["what_if"]
    assert [dial["rule"] for dial in found["dials"]] == ["long_enough"]
    assert [rule["rule"] for rule in found["whole"]] == ["odd"]
    assert not set(pages_data({"a": "</script><!-- & \u202e"})) & set("<>&\u202e")


def test_dials_rest_once_a_takedown_has_changed_the_verdicts(corpus: Any) -> None:
    facts = load_facts(corpus)
    assert what_if(facts)["problem"] is None
    kept = facts.documents.filter("kept")["doc_id"][0]
    near = (pl.col("num_words") < 20) & (pl.col("num_chars") % 5 > 0)
    alone = corpus.table("signals", hex_ids=False).filter(near).collect()["doc_id"][0]
    for gone in (kept, alone):
        dropped = pl.col("doc_id") == gone
        documents = facts.documents.with_columns(kept=pl.col("kept") & ~dropped)
        reasons = facts.reasons.with_columns(num_reasons=pl.col("num_reasons") + dropped)
        found = what_if(replace(facts, documents=documents, reasons=reasons))
        assert found["dials"] == []
        assert found["problem"] == "Documents left this version after its rules were judged."
