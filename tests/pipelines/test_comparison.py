"""Two sets of rules on the same documents: counts add up, and examples do not hang on the split."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from curate.corpus.errors import InputError
from pipelines.comparison import compare
from pipelines.corpus import Corpus, open_corpus

LEFT, RIGHT = "gopher_quality@paper", "own.yaml"


@pytest.fixture
def corpus(lab: Any, tmp_path: Path) -> Corpus:
    texts = [lab.text(n, words=20 + 3 * n) for n in range(20)]
    lab.jsonl(tmp_path / "notes.jsonl", [{"text": text} for text in texts])
    lab.run(lab.recipe(tmp_path), str(tmp_path / "store"))
    data = {
        "name": "own",
        "sources": [{"name": "notes", "paths": ["notes.jsonl"]}],
        "rules": {"add": {"long": "num_words >= 60"}},
    }
    (tmp_path / RIGHT).write_text(yaml.safe_dump(data), encoding="utf-8")
    return open_corpus("tiny", store=str(tmp_path / "store"))


def test_every_document_is_counted_once_and_disagreements_have_examples(
    corpus: Corpus, tmp_path: Path
) -> None:
    right = str(tmp_path / RIGHT)
    found = compare(corpus, LEFT, right, examples=2)
    assert sum(found.counts.values()) == 20
    assert found.rules["recipe.long"] == {"left": None, "right": 14, "both": 0}
    assert found.rules["num_words"]["left"] == 10
    # No text has stop words, so the paper keeps nothing.
    assert found.counts[False, True] == 6
    assert found.sources == {"notes": 6}
    assert [one["kept_by"] for one in found.examples] == ["right", "right"]
    assert found.examples[0]["doc_id"] < found.examples[1]["doc_id"]
    assert found.examples[0]["dropped_for"]["gopher_quality@paper.stop_words"] == {
        "num_stop_words": 0
    }
    mirrored = compare(corpus, right, LEFT, examples=2)
    assert mirrored.counts == {(b, a): count for (a, b), count in found.counts.items()}
    assert found.to_dict()["documents"]["left_drops_right_keeps"] == 6


def test_rules_that_are_nobodys_are_refused(corpus: Corpus) -> None:
    with pytest.raises(InputError, match="both sides"):
        compare(corpus, LEFT, LEFT)
    with pytest.raises(InputError, match="Did you mean 'gopher_quality@paper'"):
        compare(corpus, LEFT, "gopher_quality@papre")
