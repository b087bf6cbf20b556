"""Turning a threshold by adding up stored cells gives what judging again would give."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curate.corpus.shard import read_shard
from curate.rules.dials import Handle, dials, turned, written
from curate.rules.expression import parse_rule
from curate.rules.ruleset import RuleSet, build_rules
from curate.rules.verdict import evaluate
from pipelines.passes.base import Workspace
from pipelines.passes.whatif import MAX_EDGES, cells, count_what_if, passing
from pipelines.store import Store

COLUMNS: dict[str, Any] = {
    "n": pl.Int64(),
    "x": pl.Float64(),
    "language": pl.String(),
    "flag": pl.Boolean(),
    "source": pl.String(),
}
SOURCES = ["a", "b", "c"]
PREDICATES = [
    "n >= 5",
    "n > 5",
    "n <= 5",
    "5 > n",
    "n = 0",
    "n BETWEEN 3 AND 9",
    "x >= 0.3",
    "x < .5",
    "x > 0.1 AND x <= 0.9",
    "x BETWEEN -0.5 AND 0.5 AND language = 'en 5'",
    "language = 'en 5' AND n >= 2 AND x <= 0.75",
]


@pytest.mark.parametrize(
    ("sql", "values", "after"),
    [
        ("n >= 50", [60], "n >= 60"),
        ("50 <= n", [60.5], "60.5 <= n"),
        ("n = 0", [2], "n <= 2"),
        ("x BETWEEN -2 AND 1.5", [-3, 1e-7], "x BETWEEN -3 AND 0.0000001"),
        ("language = 'en 5' AND x >= 5", [7], "language = 'en 5' AND x >= 7"),
        ('"n" >= 4 -- not 5', [6], '"n" >= 6 -- not 5'),
    ],
)
def test_a_threshold_is_found_and_rewritten(sql: str, values: list[float], after: str) -> None:
    (dial,) = dials(parse_rule("r", sql, COLUMNS), COLUMNS)
    assert turned(sql, dial.handles, values) == after
    parse_rule("r", after, COLUMNS)


@pytest.mark.parametrize(
    "sql",
    [
        "flag",
        "NOT flag",
        "NOT (n > 5)",
        "n > 5 OR x > 2",
        "n NOT BETWEEN 3 AND 5",
        "COALESCE(n, 0) >= 5",
        "n - 5 > 3",
        "n >= x",
        "n IN (1, 2, 3)",
        "n > 5 AND n > 6",
        "language LIKE '%5%'",
    ],
)
def test_what_has_no_threshold_of_its_own_is_left_alone(sql: str) -> None:
    assert dials(parse_rule("r", sql, COLUMNS), COLUMNS) == ()


@given(
    st.lists(st.floats(-3, 3).map(lambda v: round(v, 1)), max_size=30),
    st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=6, unique=True),
)
@settings(max_examples=25)
def test_a_handle_on_an_edge_passes_exactly_its_cells(
    values: list[float], edges: list[float]
) -> None:
    edges.sort()
    array = np.asarray(values, dtype=np.float64)
    found = cells(array, np.asarray(edges))
    for place, edge in enumerate(edges):
        plain = {">=": array >= edge, ">": array > edge, "<=": array <= edge, "<": array < edge}
        for op, wanted in plain.items():
            first, end = passing(op, place, len(edges))
            assert (((found >= first) & (found < end)) == wanted).all()


def _frame(seed: int, height: int) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    nothing = rng.random(height) < 0.1
    n = pl.Series(rng.integers(0, 12, height)).set(pl.Series(nothing), None)
    x = pl.Series(rng.normal(0.3, 0.4, height).round(2)).set(pl.Series(nothing[::-1]), None)
    return pl.DataFrame(
        {
            "n": n,
            "x": x,
            "language": rng.choice(["en 5", "de"], height, p=[0.8, 0.2]),
            "flag": rng.random(height) < 0.7,
            "source": rng.choice(SOURCES, height),
            "num_bytes": rng.integers(1, 1000, height),
        }
    )


def _rules(sql: str, on_null: Any, other: str) -> RuleSet:
    return build_rules(
        use=[],
        add={"turned": sql, "other": other},
        exempt={"b": ["turned"]},
        override={"c": {"turned": "n >= 8"}},
        on_null=on_null,
        columns=COLUMNS,
        sources=SOURCES,
    )


@given(
    sql=st.sampled_from(PREDICATES),
    on_null=st.sampled_from(["keep", "drop"]),
    seed=st.integers(0, 1000),
    height=st.integers(1, 60),
)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_cells_add_up_to_what_judging_again_gives(
    tmp_path: Path, sql: str, on_null: str, seed: int, height: int
) -> None:
    frame = _frame(seed, height)
    rules = _rules(sql, on_null, "flag")
    passed = evaluate(rules.rules, frame, rules.exemptions)
    twins = np.random.default_rng(seed + 1).random(height) < 0.2
    reasons = {name: ~passed[name].to_numpy() for name in passed.columns}
    reasons["duplicate:near"] = twins
    workspace = Workspace(Store(str(tmp_path)), "judge")
    shards, found = count_what_if(workspace, rules, frame, reasons)
    kept = ~np.any(list(reasons.values()), axis=0)
    stored = (
        pl.DataFrame(pl.from_arrow(read_shard(workspace.storage, shards[0]))) if shards else None
    )
    for dial in found:
        if dial["reason"] != "rule:recipe.turned":
            continue
        assert stored is not None
        assert 2 <= len(dial["edges"]) <= MAX_EDGES
        assert dial["edges"] == sorted(set(dial["edges"]))
        mine = stored.filter(
            (pl.col("reason") == dial["reason"]) & (pl.col("column") == dial["column"])
        )
        handles = [Handle(**{k: v for k, v in h.items() if k != "edge"}) for h in dial["handles"]]
        was = _within(mine, dial, [h["edge"] for h in dial["handles"]])
        for place in range(len(dial["edges"])):
            places = [place, *[h["edge"] for h in dial["handles"][1:]]]
            now = _within(mine, dial, places)
            again = _again(sql, handles, dial, places, on_null, frame, twins)
            count, size = kept.sum() + now[0] - was[0], now[1] - was[1]
            assert (count, size) == (again.sum(), _bytes(frame, again) - _bytes(frame, kept))


def _again(
    sql: str,
    handles: list[Handle],
    dial: dict[str, Any],
    places: list[int],
    on_null: str,
    frame: pl.DataFrame,
    twins: np.ndarray,
) -> np.ndarray:
    """Judge all documents by the rewritten rule, the duplicates frozen."""
    patched = turned(sql, handles, [dial["edges"][place] for place in places])
    rules = _rules(patched, on_null, "flag")
    passed = evaluate(rules.rules, frame, rules.exemptions)
    judged = [passed[name].to_numpy() for name in passed.columns]
    kept: np.ndarray = np.all([*judged, ~twins], axis=0)
    return kept


def _within(mine: pl.DataFrame, dial: dict[str, Any], places: list[int]) -> tuple[int, int]:
    ranges = [
        passing(handle["op"], place, len(dial["edges"]))
        for handle, place in zip(dial["handles"], places, strict=True)
    ]
    first, end = max(r[0] for r in ranges), min(r[1] for r in ranges)
    rows = mine.filter((pl.col("cell") >= first) & (pl.col("cell") < end))
    return int(rows["documents"].sum()), int(rows["num_bytes"].sum())


def _bytes(frame: pl.DataFrame, mask: np.ndarray) -> int:
    return int(frame["num_bytes"].to_numpy()[mask].sum())


def test_the_edges_do_not_depend_on_the_order_of_the_documents(tmp_path: Path) -> None:
    frame = _frame(4, 500)
    rules = _rules("x BETWEEN 0.1 AND 0.9", "keep", "flag")
    workspace = Workspace(Store(str(tmp_path)), "judge")
    found = []
    for one in (frame, frame.reverse(), frame.sample(fraction=1, shuffle=True, seed=1)):
        passed = evaluate(rules.rules, one, rules.exemptions)
        reasons = {name: ~passed[name].to_numpy() for name in passed.columns}
        shards, described = count_what_if(workspace, rules, one, reasons)
        found.append((shards[0].sha256, described))
    assert found[0] == found[1] == found[2]


def test_numbers_are_written_as_a_person_would() -> None:
    assert [written(v) for v in (0, 5.0, -2, 0.1, 1e15, 2.5e-5)] == [
        "0", "5", "-2", "0.1", "1000000000000000", "0.000025",
    ]  # fmt: skip
