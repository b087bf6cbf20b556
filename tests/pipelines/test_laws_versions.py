"""What a version has decided stays decided: held-out documents, and the tokenizer."""

import pytest

_LOOSE = {"near": {"shingle": "2 words", "bands": 60, "rows": 2, "threshold": 0.25}}


def _splits(lab, store):
    verdicts = lab.frame(lab.open("tiny", store=str(store)), "verdicts")
    return dict(zip(verdicts["doc_id"], verdicts["split"], strict=True))


@pytest.fixture
def recipe(lab, tmp_path):
    guardrails = {"cluster_size": None, "verified_share": None}
    return lab.recipe(tmp_path, deduplicate={**_LOOSE, "guardrails": guardrails})


def _bridge(lab, left, right):
    """Return a text that is half one document and half another."""
    return " ".join(lab.text(left).split()[:40] + lab.text(right).split()[:40])


def test_a_document_that_was_held_out_never_comes_back_to_train(lab, recipe, tmp_path):
    store = tmp_path / "store"
    rows = [{"id": f"d{i}", "text": lab.text(i)} for i in range(40)]
    lab.jsonl(tmp_path / "a.jsonl", rows)
    lab.run(recipe, store)
    first = _splits(lab, store)
    held = {doc for doc, split in first.items() if split != "train"}
    assert 4 < len(held) < 25

    # Twins of a third of them, and texts that join each document with the next but six.
    more = [{"text": lab.near(i)} for i in range(0, 40, 3)]
    more += [{"text": _bridge(lab, i, i + 7)} for i in range(0, 30, 2)]
    lab.jsonl(tmp_path / "b.jsonl", more)
    outcome, _ = lab.run(recipe, store)
    lab.check_laws(lab.open("tiny", store=str(store)))
    second = _splits(lab, store)
    assert all(second[doc] != "train" for doc in held)
    pulled = {doc for doc in first if first[doc] == "train" and second[doc] != "train"}
    assert pulled, "a cluster that joins two splits leaves train, with everybody in it"
    assert outcome.manifests["judge"].counts["sticky_splits"] > 0

    (tmp_path / "b.jsonl").unlink()  # the bridges go, and something unrelated comes
    lab.jsonl(tmp_path / "c.jsonl", [{"text": lab.text(800)}])
    lab.run(recipe, store)
    third = _splits(lab, store)
    assert all(third[doc] != "train" for doc in held | pulled)


def test_verdicts_made_before_a_version_do_not_outlive_what_it_holds_out(lab, recipe, tmp_path):
    store, more = tmp_path / "store", tmp_path / "b.jsonl"
    lab.jsonl(tmp_path / "a.jsonl", [{"id": f"d{i}", "text": lab.text(i)} for i in range(40)])
    bridges = [{"text": _bridge(lab, i, i + 7)} for i in range(0, 30, 2)]
    lab.jsonl(more, bridges)
    lab.run(recipe, store, until="judge")  # judged when there was no version to respect
    more.unlink()
    lab.run(recipe, store)
    held = {doc for doc, split in _splits(lab, store).items() if split != "train"}
    lab.jsonl(more, bridges)
    outcome, _ = lab.run(recipe, store)
    assert outcome.manifests["judge"].counts["sticky_splits"] > 0
    second = _splits(lab, store)
    assert all(second[doc] != "train" for doc in held)
    _, executed = lab.run(recipe, store)
    assert not executed


def test_what_an_earlier_version_held_out_survives_a_version_without_it(lab, recipe, tmp_path):
    store = tmp_path / "store"
    lab.jsonl(tmp_path / "a.jsonl", [{"id": f"d{i}", "text": lab.text(i)} for i in range(40)])
    lab.run(recipe, store)
    held = {doc for doc, split in _splits(lab, store).items() if split != "train"}
    (tmp_path / "a.jsonl").unlink()
    lab.jsonl(tmp_path / "c.jsonl", [{"text": lab.text(i)} for i in range(900, 910)])
    lab.run(recipe, store)  # a version that knows none of them
    lab.jsonl(tmp_path / "a.jsonl", [{"id": f"d{i}", "text": lab.text(i)} for i in range(40)])
    lab.jsonl(tmp_path / "b.jsonl", [{"text": _bridge(lab, i, i + 7)} for i in range(0, 30, 2)])
    lab.run(recipe, store)
    third = _splits(lab, store)
    assert all(third[doc] != "train" for doc in held)
    _, executed = lab.run(recipe, store)
    assert not executed


def test_a_test_document_stays_a_test_document(lab, recipe, tmp_path):
    lab.jsonl(tmp_path / "a.jsonl", [{"id": f"d{i}", "text": lab.text(i)} for i in range(40)])
    lab.run(recipe, tmp_path / "store")
    first = _splits(lab, tmp_path / "store")
    lab.jsonl(tmp_path / "b.jsonl", [{"text": _bridge(lab, i, i + 1)} for i in range(39)])
    lab.run(recipe, tmp_path / "store")
    second = _splits(lab, tmp_path / "store")
    test = {doc for doc, split in first.items() if split == "test"}
    assert test
    assert {second[doc] for doc in test} == {"test"}


def test_a_later_version_uses_the_first_tokenizer_until_a_refit_is_asked_for(lab, tmp_path):
    recipe, store = lab.recipe(tmp_path), tmp_path / "store"
    lab.jsonl(tmp_path / "a.jsonl", [{"text": lab.text(i)} for i in range(20)])
    used = []

    def run(**options):
        outcome, executed = lab.run(recipe, store, **options)
        used.append(outcome.manifests["tokenize"].info["tokenizer"]["sha256"])
        return outcome, executed

    run()
    other = [{"text": f"zyxw {i} zyxwvu {i * 7} zyxwvuts uvwxyz vutsr " * 4} for i in range(60)]
    lab.jsonl(tmp_path / "b.jsonl", other)
    run()
    assert used[1] == used[0]
    outcome, executed = run(refit=True)
    assert used[2] != used[0]
    assert executed["tokenize"] == 3, "the fit, and both files anew"
    assert outcome.version.number == 3
    outcome, executed = run()
    assert used[3] == used[2], "the refitted one is pinned now"
    assert (outcome.published, executed.total()) == (False, 0)


def test_going_back_to_an_old_recipe_goes_back_to_its_version(lab, tmp_path):
    lab.jsonl(tmp_path / "a.jsonl", [{"text": lab.text(i)} for i in range(12)])
    store, mixed = tmp_path / "store", {"weights": {"notes": 1.0}, "budget": "500 tokens"}
    first, _ = lab.run(lab.recipe(tmp_path), store)
    second, _ = lab.run(lab.recipe(tmp_path, mix=mixed), store)
    again, executed = lab.run(lab.recipe(tmp_path), store)
    assert (first.version.number, second.version.number, again.version.number) == (1, 2, 1)
    assert second.version.parent == 1
    assert again.published
    assert executed.total() == 0
    assert lab.open("tiny", store=str(store)).version.number == 1
    assert lab.open("tiny@2", store=str(store)).version == second.version
