"""The ladder: laws that are known are found within their errors; few points are told as such."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curate.corpus.errors import InputError
from pipelines import ladder, laddering
from pipelines.ladder import Rung, climb, conclude, plan_rungs
from pipelines.ladder_fit import DELTA, Point, fit
from pipelines.ladder_page import render
from train.__main__ import main

SIZES = (1e5, 4e5, 1.6e6, 6.4e6)


def _true(size: float, tokens: float) -> float:
    return 1.7 + 40 / size**0.3 + 60 / tokens**0.28


def _grid(noise: float, seed: int) -> list[Point]:
    random = np.random.default_rng(seed)
    return [
        Point(
            size=size,
            tokens=ratio * size,
            nats=_true(size, ratio * size) * math.exp(noise * random.standard_normal()),
        )
        for size in SIZES
        for ratio in (5, 20, 80)
    ]


def test_a_law_without_noise_is_found() -> None:
    law = fit(_grid(0.0, 0))
    assert law.kind == "size and tokens"
    known = {"E": 1.7, "A": 40, "alpha": 0.3, "B": 60, "beta": 0.28}
    assert law.values == pytest.approx(known, rel=1e-3)
    nats, low, high = law.predict(1e8, 2e9)
    assert low <= nats <= high
    assert nats == pytest.approx(_true(1e8, 2e9), rel=1e-4)


def test_the_stated_errors_hold_the_known_constants_and_grow_with_noise() -> None:
    inside, errors = 0, []
    for noise in (0.002, 0.01):
        laws = [fit(_grid(noise, seed)) for seed in range(8)]
        errors.append(float(np.median([law.errors["alpha"] for law in laws])))
        for law in laws:
            inside += abs(law.values["alpha"] - 0.3) <= 2.4 * law.errors["alpha"]
            _, low, high = law.predict(3e7, 6e8)
            inside += low <= _true(3e7, 6e8) <= high
    assert inside >= 28, "of 32; an interval of 90 % and one of 95 % for each of 16 laws"
    assert errors[1] > 2.5 * errors[0]


def test_one_wild_run_moves_the_law_less_than_its_error() -> None:
    points = _grid(0.001, 1)
    spoiled = [*points[:-4], Point(size=points[-4].size, tokens=points[-4].tokens, nats=9.0)]
    spoiled += points[-3:]
    law, other = fit(points), fit(spoiled)
    assert other.scale > 10 * max(law.scale, DELTA)
    assert abs(other.values["alpha"] - law.values["alpha"]) < 2 * other.errors["alpha"]


@pytest.mark.parametrize(
    ("sizes", "kind"), [(SIZES[:3], "power"), (SIZES, "size"), ((*SIZES, 2.5e7), "size")]
)
def test_what_the_points_cannot_carry_is_not_fitted(sizes: tuple[float, ...], kind: str) -> None:
    law = fit([Point(size=n, tokens=20 * n, nats=2 + 40 / n**0.3) for n in sizes])
    assert law.kind == kind
    assert law.freedom == len(sizes) - len(law.values)
    if kind == "size":
        assert law.values == pytest.approx({"E": 2, "A": 40, "alpha": 0.3}, rel=1e-2)
        assert "E 2 to 2" in law.told()


def test_a_floor_of_nothing_is_told_as_such() -> None:
    law = fit([Point(size=n, tokens=n, nats=40 / n**0.2) for n in SIZES])
    assert law.at_bound
    assert "E is not told from 0" in law.told()
    assert law.values["alpha"] == pytest.approx(0.2, abs=1e-3)


def test_too_few_sizes_and_senseless_losses_are_refused() -> None:
    two = [Point(size=n, tokens=n, nats=3.0) for n in (1e5, 1e5, 2e5, 2e5)]
    with pytest.raises(InputError, match="needs 3 sizes.*these are 2"):
        fit(two)
    with pytest.raises(InputError, match="not above zero"):
        fit([*two, Point(size=3e5, tokens=1e5, nats=math.nan)])


@pytest.fixture(scope="module")
def corpus(lab: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    base = tmp_path_factory.mktemp("ladder")
    lab.jsonl(base / "notes.jsonl", [{"text": lab.text(i)} for i in range(30)])
    lab.run(lab.recipe(base), base / "store")
    return lab.open("tiny", store=str(base / "store"))


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[Path]:
    """Answer for the trainer: sizes in this process, and results that follow a law."""

    def call(arguments: list[str], *, processes: int = 1, on_line: Any = None) -> None:
        capsys.readouterr()
        assert main(arguments) == 0
        for line in capsys.readouterr().out.splitlines():
            on_line(line)

    runs: list[Path] = []

    def train_run(path: Path, told: Any, *, processes: int = 1) -> dict[str, Any]:
        runs.append(path)
        config = json.loads(path.read_text())["config"]
        nats = 2 + 3 / config["depth"]
        (path.parent / "metrics.jsonl").write_text(
            '{"step": 5, "loss": 6.0}\n{"step": 5, "held_out_nats": 5.5}\n'
        )
        return {
            "held_out": {"model": {"nats_per_target": nats, "bits_per_byte": nats / 2}},
            "steps": config["steps"],
            "rows": 8 * config["steps"],
            "train_sources": {"notes": {"targets": 100 * config["steps"]}},
            "training_seconds": 1.0,
        }

    monkeypatch.setattr(ladder, "call", call)
    monkeypatch.setattr(ladder, "train_run", train_run)
    return runs


def test_a_ladder_is_ordinary_runs_and_one_law(
    corpus: Any, trained: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = {"batch_rows": 4, "device": "cpu", "max_minutes": 3}
    rungs, above = plan_rungs(corpus, config, [4, 1, 2, 3, 3], tokens_per_parameter=[0.01])
    assert [rung.depth for rung in rungs] == [1, 2, 3, 4]
    assert above.depth == 5
    for rung in (*rungs, above):
        assert rung.steps == math.ceil(0.01 * rung.size / (4 * 64))
    climbed = climb(corpus, config, rungs, runs=tmp_path)
    assert len({one["run"] for one in climbed}) == 4
    assert json.loads(trained[0].read_text())["config"] == {
        "batch_rows": 4, "device": "cpu", "depth": 1, "steps": rungs[0].steps
    }  # fmt: skip
    assert climbed[0]["glances"] == [[5, 5.5]]
    found = conclude(corpus, config, climbed, above)
    assert found == json.loads(json.dumps(found))
    assert found["next"]["low"] < found["next"]["nats"] < found["next"]["high"]
    assert found["next"]["tokens"] == round(100 * above.steps)  # type: ignore[operator]
    assert found["held_back"]["depth"] == 4
    assert found["held_back"]["kind"] == "power"
    laddering.show_ladder(found)
    told = capsys.readouterr().out
    assert "tokens are not told from size" in told
    assert "without depth 4 the law would say" in told
    assert "reads the corpus" in told
    page = render(found)
    assert page.count('<circle class="held"') == 4
    assert "90 % between" in page

    again = climb(corpus, config, rungs, runs=tmp_path)
    assert [one["run"] for one in again] == [one["run"] for one in climbed]


def test_several_lengths_make_a_grid(corpus: Any, trained: list[Path]) -> None:
    rungs, above = plan_rungs(corpus, {}, [1, 2, 4], steps=[10, 20])
    assert [(rung.depth, rung.steps) for rung in rungs] == [
        (1, 10), (1, 20), (2, 10), (2, 20), (4, 10), (4, 20)
    ]  # fmt: skip
    assert (above.depth, above.steps) == (6, 20)
    plain, _ = plan_rungs(corpus, {"max_minutes": 1}, [1, 2, 3])
    assert plain[0].config({"max_minutes": 1}) == {"max_minutes": 1, "depth": 1}


def test_ladders_that_cannot_stand_are_refused(
    corpus: Any, trained: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for arguments, said in (
        (({}, [1, 2]), "at least 3 depths, and 4 to tell a floor.*got 1, 2"),
        (({"init_from": "x"}, [1, 2, 3]), "no init_from"),
        (({"width": 64}, [1, 2, 3]), "no width"),
    ):
        with pytest.raises(InputError, match=said):
            plan_rungs(corpus, *arguments)
    with pytest.raises(InputError, match="exclude each other"):
        plan_rungs(corpus, {}, [1, 2, 3], steps=[1], tokens_per_parameter=[1])
    for text in ("1,x", "0,1", "nan", "-1"):
        with pytest.raises(InputError, match="--depths is"):
            laddering._numbers(int if text != "nan" else float, "--depths", text)
    manifest = corpus.manifest("pack")
    monkeypatch.setitem(manifest.counts, "validation_rows", 0)
    with pytest.raises(InputError, match="no held-out text"):
        climb(corpus, {}, [Rung(depth=1, size=1, parameters=1, steps=1)])
