"""A guardrail stops the run, names the key that overrides it, and null switches it off."""

import pytest

from curate.corpus.errors import InputError
from pipelines.passes import deduplicate

_SHORT = {"shingle": "3 words", "bands": 16, "rows": 4, "threshold": 0.5}


def _run(lab, folder, until, near=_SHORT, **guardrails):
    recipe = lab.recipe(folder, deduplicate={"near": near, "guardrails": guardrails})
    return lab.run(recipe, folder / "store", until=until)[0]


def test_a_source_that_would_lose_too_much_stops_the_run(lab, tmp_path):
    rows = [{"text": lab.text(i // 4, 24) + f" tail{i}"} for i in range(1000)]
    lab.jsonl(tmp_path / "a.jsonl", rows)
    with pytest.raises(InputError, match="take 750 of 1000 .*source 'notes'") as caught:
        _run(lab, tmp_path, "judge")
    assert "deduplicate.guardrails.source_loss" in str(caught.value)
    assert _run(lab, tmp_path, "judge", source_loss=0.75).manifests["judge"].counts["kept"] == 250
    assert _run(lab, tmp_path, "judge", source_loss=None).manifests["judge"].counts["kept"] == 250


def test_a_small_source_may_lose_any_share(lab, tmp_path):
    rows = [{"text": lab.text(i // 4, 24) + f" tail{i}"} for i in range(100)]
    lab.jsonl(tmp_path / "a.jsonl", rows)
    assert _run(lab, tmp_path, "judge").manifests["judge"].counts["kept"] == 25


def test_a_cluster_that_is_too_large_stops_the_run(lab, tmp_path):
    lab.jsonl(tmp_path / "a.jsonl", [{"text": lab.text(0, 24) + f" tail{i}"} for i in range(6)])
    with pytest.raises(InputError, match="cluster has 6 documents, more than 5") as caught:
        _run(lab, tmp_path, "deduplicate", cluster_size=5)
    assert "deduplicate.guardrails.cluster_size" in str(caught.value)
    _run(lab, tmp_path, "deduplicate", cluster_size=6)
    _run(lab, tmp_path, "deduplicate", cluster_size=None)


def test_candidates_that_do_not_verify_stop_the_run(lab, tmp_path):
    shared = lab.text(0, 30)
    rows = [{"text": f"{shared} {lab.text(i, 60)}"} for i in range(1, 61)]
    lab.jsonl(tmp_path / "a.jsonl", rows)
    near = {"shingle": "3 words", "bands": 40, "rows": 1, "threshold": 0.99}
    _run(lab, tmp_path, "deduplicate", near)  # so few cost nothing
    with (
        lab.patched(deduplicate, "_MIN_CANDIDATES", 1000),
        pytest.raises(InputError, match=r"only 0 of 1\d\d\d .*candidates verify") as caught,
    ):
        _run(lab, tmp_path, "deduplicate", near)
    assert "deduplicate.guardrails.verified_share" in str(caught.value)
    _run(lab, tmp_path, "deduplicate", near, verified_share=0)
    _run(lab, tmp_path, "deduplicate", near, verified_share=None)
