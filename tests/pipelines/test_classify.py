"""`preceptor classify`: two sets of documents become a classifier that knows how good it is."""

import hashlib

import pytest

from curate.corpus.errors import InputError
from curate.signals.classifiers import unpack
from pipelines.classify import classify, tell
from pipelines.corpus import open_corpus

_QUICK = {"deduplicate": {"exact": False, "near": None}}


@pytest.fixture(scope="module")
def taught(lab, tmp_path_factory):
    """A corpus of 100 recipes and 100 invoices, ten copies among them, and its store."""
    folder = tmp_path_factory.mktemp("taught")
    rows = [
        {"id": f"r{n}", "text": f"Stir the {lab.text(n, 12)} in a pan and season it. Serve hot."}
        for n in range(100)
    ]
    rows += [
        {"id": f"i{n}", "text": f"Invoice: {lab.text(500 + n, 12)} is due. Pay the amount in full."}
        for n in range(100)
    ]
    rows += [{"id": f"c{n}", "text": rows[n]["text"]} for n in range(10)]
    lab.jsonl(folder / "a.jsonl", rows)
    lab.run(lab.recipe(folder, **_QUICK), folder / "store")
    return folder


def ids_of(folder, keys):
    frame = open_corpus("tiny", store=str(folder / "store")).table("documents").collect()
    named = dict(zip(frame["key"], frame["doc_id"], strict=True))
    return [named[key] for key in keys]


def ids_file(folder, name, keys):
    path = folder / f"{name}.txt"
    path.write_text("\n".join(ids_of(folder, keys)).upper() + "\n")
    return path


def learn(folder, **options):
    asked = {"name": "quality", "out": folder / "models" / "quality.arrow", **options}
    return classify("tiny", store=str(folder / "store"), **asked)


def test_a_classifier_is_trained_from_ids_and_measured_with(lab, taught, tmp_path):
    good = ids_file(taught, "good", [f"r{n}" for n in range(100)] + [f"c{n}" for n in range(10)])
    bad = ids_file(taught, "bad", [f"i{n}" for n in range(100)])
    facts = learn(taught, good=good, bad=bad)
    assert facts["documents"] == {"good": 110, "bad": 100, "of_both_sides": 0, "copies": 10}
    assert facts["trained_on"] == {"good": 80, "bad": 80}
    held = facts["held_out"]
    assert (held["good"], held["bad"], held["auc"]) == (20, 20, 1.0)
    assert held["auc_interval"][0] < 0.85, "forty texts prove little"
    assert held["accuracy"] > 0.9
    out = taught / "models" / "quality.arrow"
    assert hashlib.sha256(out.read_bytes()).hexdigest() == facts["sha256"]
    unpack(out.read_bytes(), "quality.arrow")
    told = tell(facts, out)
    assert "80 good and 80 bad texts" in told[0]
    assert "area under the curve 1.000" in told[1]
    assert len(told) == 3
    where = {"good_where": "key LIKE 'r%' OR key LIKE 'c%'", "bad_where": "key LIKE 'i%'"}
    by_sql = learn(taught, **where, out=tmp_path / "q.arrow")
    assert by_sql["sha256"] == facts["sha256"], "the same documents make the same bytes"
    recipe = lab.recipe(
        taught,
        measure={"classifiers": {"quality": "models/quality.arrow"}},
        rules={"add": {"good": "classifier_quality > 0.5"}},
        **_QUICK,
    )
    lab.run(recipe, taught / "other")
    verdicts = lab.frame(open_corpus("tiny", store=str(taught / "other")), "verdicts")
    kept = set(verdicts.filter("kept")["doc_id"])
    assert len(kept & set(ids_of(taught, [f"r{n}" for n in range(100)]))) > 95
    assert len(kept & set(ids_of(taught, [f"i{n}" for n in range(100)]))) < 5


def test_what_cannot_teach_is_refused(taught, tmp_path):
    good = ids_file(taught, "good_few", [f"r{n}" for n in range(60)])
    few = ids_file(taught, "few", [f"i{n}" for n in range(49)])
    mixed = ids_file(taught, "mixed", [f"i{n}" for n in range(60)] + ["r1"])
    twins = ids_file(taught, "twins", [f"i{n}" for n in range(60)] + [f"c{n}" for n in range(10)])
    (tmp_path / "strange.txt").write_text("no_such_id\n")
    (tmp_path / "empty.txt").write_text(" \n")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe")
    cases = [
        ({"good": good, "bad": few}, "49 different texts are bad, and a classifier needs 50"),
        ({"good": good, "bad": mixed}, "1 documents are both good and bad"),
        ({"good": good, "bad": tmp_path / "strange.txt"}, "holds 1 ids that are not in tiny@1"),
        ({"good": good, "bad": tmp_path / "empty.txt"}, "empty.txt holds no id"),
        ({"good": good, "bad": tmp_path / "binary.txt"}, "--bad: cannot read"),
        ({"good": good, "bad": tmp_path / "absent.txt"}, "--bad: cannot read"),
        ({"good": good, "bad": good, "name": "Is Good"}, "--name 'Is Good': a classifier becomes"),
        ({"good": good}, "either --bad FILE or --bad-where"),
        ({"good": good, "bad": few, "bad_where": "kept"}, "either --bad FILE or --bad-where"),
        ({"good": good, "bad_where": "kye LIKE 'i%'"}, "--bad-where: .*'kye'.*Did you mean 'key'"),
        ({"good": good, "bad_where": "num_words < 0"}, "no document of tiny@1 matches"),
        ({"good": good, "bad_where": "key LIKE 'i%'", "out": tmp_path}, "is a folder; name a file"),
    ]
    for options, message in cases:
        with pytest.raises(InputError, match=message):
            learn(taught, **options)
    facts = learn(taught, good=good, bad=twins)
    assert facts["documents"]["of_both_sides"] == 20, "what is on both sides teaches neither"
    assert not (tmp_path / "models").exists()


def test_sets_that_do_not_differ_are_told_to_be_chance(taught):
    where = {"good_where": "doc_id < '8'", "bad_where": "doc_id >= '8'"}
    facts = learn(taught, **where)
    assert facts["held_out"]["auc_interval"][0] <= 0.5
    assert any("no better than chance" in line for line in tell(facts, taught))
