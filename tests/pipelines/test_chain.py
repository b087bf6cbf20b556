"""What runs right behind `clean` changes no byte, and what fails there is told by its own pass."""

from pathlib import Path
from typing import Any

import pytest

import pipelines.build
import pipelines.passes.measuring
from curate.corpus.errors import InputError
from pipelines.chain import followers
from pipelines.engine import SerialEngine
from pipelines.passes import base
from pipelines.passes.base import Context
from pipelines.store import Store


@pytest.fixture
def recipe(tmp_path: Path, lab: Any) -> Any:
    for number in range(3):
        texts = [lab.text(10 * number + i) + "\r\n" * (i % 2) for i in range(6)]
        lab.jsonl(tmp_path / f"in/{number}.jsonl", [{"text": text} for text in texts])
    lab.jsonl(tmp_path / "items.jsonl", [{"question": lab.text(13)}])
    against = [{"name": "items", "paths": ["items.jsonl"], "columns": ["question"]}]
    return lab.recipe(
        tmp_path,
        sources=[{"name": "s", "paths": ["in/*.jsonl"]}],
        decontaminate={"against": against},
        collect={"part_bytes": 2000},
    )


def test_a_chained_run_leaves_the_same_bytes_and_counts_as_one_pass_after_another(
    tmp_path: Path, lab: Any, recipe: Any
) -> None:
    real, followed = base._follow, []

    def follow(*arguments: Any) -> Any:
        followed.append(real(*arguments))
        return followed[-1]

    with lab.patched(base, "_follow", follow):
        _, chained = lab.run(recipe, tmp_path / "chained", engine=SerialEngine())
    assert all(followed)
    assert len(followed) == 3 * chained["clean"] >= 9
    with lab.patched(pipelines.build, "followers", lambda *_: ()):
        _, alone = lab.run(recipe, tmp_path / "alone", engine=SerialEngine())
    assert chained == alone, "a part that ran ahead counts in its own pass"
    assert lab.snapshot(tmp_path / "chained") == lab.snapshot(tmp_path / "alone")


def test_the_stages_that_follow_belong_to_the_passes_of_the_run(
    tmp_path: Path, lab: Any, recipe: Any
) -> None:
    store = Store(str(tmp_path / "store"))
    outcome = pipelines.build.run(recipe, store=store, until="collect")
    context = Context(
        store=store, engine=SerialEngine(), recipe=recipe, manifests=dict(outcome.manifests)
    )
    names = lambda *passes: [stage.name for stage in followers(context, passes)]  # noqa: E731
    assert names("clean") == []
    assert names("clean", "measure") == ["measure"]
    assert names(*pipelines.build.PASSES) == ["measure", "deduplicate", "decontaminate"]


def test_a_follower_that_fails_is_told_by_its_own_pass(
    tmp_path: Path, lab: Any, recipe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise InputError("no more")

    monkeypatch.setattr(pipelines.passes.measuring, "measure_families", broken)
    store = Store(str(tmp_path / "store"))
    done = pipelines.build.run(recipe, store=store, until="clean")
    assert done.manifests["clean"].counts["documents"] == 18
    with pytest.raises(InputError, match="no more"):
        pipelines.build.run(recipe, store=store)
    monkeypatch.undo()
    assert pipelines.build.run(recipe, store=store).version is not None
