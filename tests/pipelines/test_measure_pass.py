"""The pass that measures: what is asked for, once, and again only where something changed."""

import json
import re
from collections import Counter

import pytest

from curate.corpus.errors import InputError, IntegrityError
from curate.signals.registry import families
from pipelines.build import plan
from pipelines.demanded import check_measures, families_of, signals_read
from pipelines.digest import reached
from pipelines.passes.base import Workspace
from pipelines.passes.measuring import join_columns
from pipelines.recipe import parse_recipe
from pipelines.store import Store
from pipelines.verify import verify

_QUICK = {"deduplicate": {"near": None}}


@pytest.fixture
def folder(lab, tmp_path):
    """Two inputs of thirty documents, a word list, and a reference set."""
    for part in range(2):
        rows = [
            {"id": f"{part}-{n}", "text": lab.text(100 * part + n), "url": f"http://h{n % 3}.org/x"}
            for n in range(30)
        ]
        lab.jsonl(tmp_path / f"{part}.jsonl", rows)
    words = sorted(set(lab.text(1).split()))
    (tmp_path / "mine.txt").write_text("\n".join(words[:20]))
    (tmp_path / "ref").mkdir()
    for part in range(2):
        rows = [{"text": lab.text(n), "id": str(n)} for n in range(5 * part, 5 * part + 5)]
        lab.jsonl(tmp_path / "ref" / f"{part}.jsonl", rows)
    return tmp_path


def run(lab, folder, *, until="measure", **sections):
    """Return the outcome, and how many parts each stage of `measure` executed."""
    stages = Counter()
    options = {key: sections.pop(key) for key in ("engine", "refit") if key in sections}
    recipe = lab.recipe(folder, **{**_QUICK, **sections})
    outcome, _ = lab.run(recipe, folder / "store", stages, until=until, **options)
    measured = {
        stage.removeprefix("measure "): number
        for stage, number in stages.items()
        if stage.startswith("measure ")
    }
    return outcome.manifests["measure"], measured


def columns(folder, manifest):
    from curate.corpus.shard import read_shard

    storage = Store(str(folder / "store")).storage
    (first, *_) = [read_shard(storage, shard) for shard in manifest.tables["signals"]]
    return first


def test_what_nobody_asks_for_is_one_job_per_shard(lab, folder):
    manifest, stages = run(lab, folder)
    assert stages == {"signals": 2}
    assert list(manifest.settings) == ["always"]
    always = [signal for one in families().values() if one.default for signal in one.signals]
    table = columns(folder, manifest)
    assert table.column_names == ["doc_id", "text_hash", *always]
    assert set(table["url_domain"].to_pylist()) == {"h0.org", "h1.org", "h2.org"}
    assert run(lab, folder) == (manifest, {})


def test_a_family_that_a_rule_reads_is_measured_because_it_does(lab, folder):
    run(lab, folder)
    rules = {"add": {"sure": "language_score >= 0"}}
    manifest, stages = run(lab, folder, rules=rules)
    assert stages == {"signals language": 2, "join": 2}
    assert {"language", "language_score"} <= set(columns(folder, manifest).column_names)
    manifest, stages = run(lab, folder, deduplicate={"near": None, "keep": "char_entropy DESC"})
    assert stages == {"signals entropy": 2, "join": 2}
    manifest, stages = run(lab, folder, measure={"families": ["entropy", "language"]})
    assert stages == {"join": 2}, "both are measured already"
    assert list(manifest.settings) == ["always", "entropy", "language"]
    assert run(lab, folder)[1] == {}, "and without them nothing is left to do"


def test_families_do_not_share_code_that_only_one_of_them_needs():
    for name, other in (("language", "entropy"), ("entropy", "language"), ("url", "license")):
        modules, _ = reached("pipelines.passes.measuring", f"curate.signals.{name}")
        assert f"curate.signals.{name}" in modules
        assert f"curate.signals.{other}" not in modules
    assert "pipelines.passes.judge" not in reached("pipelines.passes.measure")[0]


def test_a_changed_word_list_measures_itself_again_and_nothing_else(lab, folder):
    lists = {"mine": {"paths": ["mine.txt"]}, "other": {"words": ["one", "two"]}}
    manifest, stages = run(lab, folder, measure={"word_lists": lists})
    groups = {"signals": 2, "signals word_lists:mine": 2, "signals word_lists:other": 2}
    assert stages == {**groups, "load": 2, "join": 2}
    before = columns(folder, manifest)
    assert before["words_mine"].to_pylist()[1] > 100
    assert set(before["words_other"].to_pylist()) == {0}
    with (folder / "mine.txt").open("a") as stream:
        stream.write("\nanother\n")
    manifest, stages = run(lab, folder, measure={"word_lists": lists})
    assert stages == {"load": 1, "signals word_lists:mine": 2}, "no rate changed, nothing to join"
    assert len(manifest.tables["artefacts"]) == 2


_FITTED = {
    "perplexity": {"order": 2, "bits": 12},
    "importance": {"wiki": {"paths": ["ref/*.jsonl"]}},
}


def test_a_fitted_model_stays_until_a_refit_is_asked_for(lab, folder):
    first, stages = run(lab, folder, measure=_FITTED)
    assert stages == {
        "signals": 2,
        "count perplexity": 2,
        "fit perplexity": 1,
        "signals perplexity": 2,
        "count importance:wiki": 4,
        "fit importance:wiki": 1,
        "signals importance:wiki": 2,
        "join": 2,
    }
    words = 60 * 80
    assert sum(first.info["artefacts"]["perplexity"]["words"]) == words
    table = columns(folder, first)
    means = table["importance_wiki_mean"].to_pylist()
    assert min(means[:10]) > max(means[10:]), "the first ten are the reference set"
    lab.jsonl(folder / "2.jsonl", [{"id": "new", "text": lab.text(777)}])
    more, stages = run(lab, folder, measure=_FITTED)
    pinned = ("signals", "signals perplexity", "signals importance:wiki", "join")
    assert stages == dict.fromkeys(pinned, 1)
    assert more.tables["artefacts"] == first.tables["artefacts"]
    again, stages = run(lab, folder, measure=_FITTED, refit=True)
    assert stages["count perplexity"] == stages["count importance:wiki"] == 1
    assert sum(again.info["artefacts"]["perplexity"]["words"]) == words + 80
    assert run(lab, folder, measure=_FITTED) == (again, {})


def test_no_order_of_completion_changes_a_byte(lab, folder):
    run(lab, folder, measure=_FITTED)
    one = lab.snapshot(folder / "store")
    (folder / "store").rename(folder / "serial")
    run(lab, folder, measure=_FITTED, engine=lab.ShufflingEngine(3))
    assert lab.snapshot(folder / "store") == one


def test_a_corpus_with_made_signals_is_whole_and_its_rules_read_them(lab, folder):
    own = "json:dumps"  # returns a string, so it must not be called
    measure = {**_FITTED, "word_lists": {"mine": {"paths": ["mine.txt"]}}}
    sections = {
        **_QUICK,
        "measure": measure,
        "rules": {"add": {"alike": "importance_wiki_mean > -1", "mine": "words_mine < 200"}},
    }
    recipe = lab.recipe(folder, **sections)
    check_measures(recipe)
    outcome, _ = lab.run(recipe, folder / "store")
    corpus = lab.open("tiny", store=str(folder / "store"))
    assert verify(corpus, [].append) == []
    lab.check_laws(corpus)
    reasons = lab.frame(corpus, "verdicts")["reasons"].explode().drop_nulls()
    assert "rule:recipe.mine" in set(reasons)
    assert outcome.executed
    assert {one.state for one in plan(recipe, store=str(folder / "store"))} == {"done"}
    with pytest.raises(InputError, match=f"would run the Python function {own}; allow it"):
        run(lab, folder, measure={"functions": {"mine": own}})


def test_a_function_runs_only_when_the_command_line_allows_it(lab, folder, monkeypatch):
    (folder / "own_numbers.py").write_text("def size(texts): return [len(t) for t in texts]\n")
    monkeypatch.syspath_prepend(str(folder))
    text = json.dumps(
        {
            "name": "tiny",
            "sources": [{"name": "notes", "paths": ["*.jsonl"]}],
            "measure": {"functions": {"size": "own_numbers:size"}},
            **_QUICK,
        }
    )
    refused = parse_recipe(text, base=str(folder), allow=["own_numbers:other"])
    for look in (check_measures, lambda r: lab.run(r, folder / "store", until="measure")):
        with pytest.raises(InputError, match="--allow own_numbers:size"):
            look(refused)
    allowed = parse_recipe(text, base=str(folder), allow=["own_numbers:size"])
    check_measures(allowed)
    outcome, _ = lab.run(allowed, folder / "store", until="measure")
    table = columns(folder, outcome.manifests["measure"])
    assert table["size"].to_pylist() == table["num_chars"].to_pylist()


@pytest.mark.parametrize(
    ("measure", "message"),
    [
        ({"families": ["langage"]}, r"unknown signal family 'langage'.*Did you mean 'language'"),
        ({"word_lists": {"x": {"paths": ["no.txt"]}}}, "word_lists:x: cannot read no.txt"),
        ({"word_lists": {"x": {"paths": ["ref"]}}}, "word_lists:x: cannot read ref"),
        ({"word_lists": {"x": {"words": ["!!"]}}}, "a list holds no word"),
        ({"classifiers": {"q": "mine.txt"}}, "mine.txt is no classifier"),
        ({"importance": {"x": {"paths": ["no/*.jsonl"]}}}, "importance:x: .*no/"),
        ({"functions": {"num_words": "a:b"}}, "would give the signal 'num_words'"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_any_work(lab, folder, measure, message):
    recipe = lab.recipe(folder, measure=measure, **_QUICK)
    with pytest.raises(InputError, match=message):
        check_measures(recipe)
    with pytest.raises(InputError, match=message):
        lab.run(recipe, folder / "store", until="measure")


@pytest.mark.parametrize(
    "measure",
    [
        {"word_lists": {"Bad Name": {"words": ["x"]}}},
        {"word_lists": {"x": {}}},
        {"functions": {"x": "no_function"}},
        {"functions": {"x": "os.system:'x'"}},
        {"perplexity": {"order": 9}},
        {"perplexity": {"against": "everything"}},
        {"classifiers": {"x": ""}},
        {"familes": ["language"]},
    ],
)
def test_a_section_that_means_nothing_is_refused(lab, folder, measure):
    with pytest.raises(InputError, match="recipe:"):
        lab.recipe(folder, measure=measure)


def test_a_reference_set_must_be_whole(lab, folder):
    lab.jsonl(folder / "ref" / "2.jsonl", [{"text": "sound"}, b"{broken"])
    with pytest.raises(InputError, match=r"importance:wiki: .*2.jsonl record .* cannot be read"):
        run(lab, folder, measure=_FITTED)


@pytest.mark.parametrize("kind", ["importance", "perplexity"])
def test_a_reference_set_without_words_is_refused(lab, folder, kind):
    lab.jsonl(folder / "empty" / "a.jsonl", [{"text": "..."}])
    reference = {"paths": ["empty/a.jsonl"]}
    measure = {"importance": {"x": reference}}
    if kind == "perplexity":
        measure = {"perplexity": {"against": reference, "bits": 10}}
    with pytest.raises(InputError, match=f"measure.{kind}: the reference set holds no word"):
        run(lab, folder, measure=measure)


def test_columns_of_other_documents_are_not_joined(lab, folder):
    manifest, _ = run(lab, folder)
    store = Store(str(folder / "store"))
    one, other = manifest.tables["signals"]
    joined = join_columns(Workspace(store, "measure"), (one, one)).tables["signals"]
    assert joined == [one], "the same columns twice are the same shard"
    with pytest.raises(IntegrityError, match=re.escape(one.path)):
        join_columns(Workspace(store, "measure"), (one, other))


def test_what_a_recipe_reads_is_what_its_rules_and_its_order_read(lab, folder):
    recipe = lab.recipe(
        folder,
        rules={
            "add": {"a": "num_words > 3 OR word_entropy > 1"},
            "override": {"notes": {"a": "compression_ratio < 2"}},
        },
        deduplicate={"near": None, "keep": "num_sentences DESC"},
    )
    read = signals_read(recipe)
    assert read == {"num_words", "word_entropy", "compression_ratio", "num_sentences", "doc_id"}
    always, wanted = families_of(recipe, read)
    assert wanted == ["compressibility", "entropy", "sentences"]
    assert set(always) == {name for name, one in families().items() if one.default}
