"""How right a run was: which of the injected pairs it found, and what else it removed."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import truth

THRESHOLD = 0.8
MIN_RECALL = 0.99


@dataclass(frozen=True, kw_only=True)
class Score:
    """Attributes.

    recall: share of the injected pairs of J >= 0.8, exact copies apart, not both kept.
    own_recall: the same for the pairs of J >= 0.8 by the tool's own idea of a word.
    by_bin: name of the bin -> share of its pairs that are not both kept.
    precision: share of the removed documents with a twin of J >= 0.8 in their group.
    unsupported: removed documents without a KEPT twin of J >= 0.8.
    groups_lost: groups linked by J >= 0.8 of which nothing is left.
    removed: number of removed documents.
    """

    recall: float
    own_recall: float
    by_bin: dict[str, float]
    precision: float
    unsupported: int
    groups_lost: int
    removed: int

    def failures(self) -> list[str]:
        """Return the gates that do not hold."""
        found = []
        if self.recall < MIN_RECALL:
            found.append(f"recall {self.recall:.4f} is below {MIN_RECALL}")
        if self.precision < 1.0:
            found.append(f"precision {self.precision:.4f} is below 1")
        if self.groups_lost:
            found.append(f"{self.groups_lost} groups have no survivor")
        if self.unsupported:
            found.append(f"{self.unsupported} removed documents have no kept twin")
        return found


class Judge:
    """Knows the truth of one corpus."""

    def __init__(self, documents: Path, truth_file: Path) -> None:
        self.rows = pq.read_table(documents, columns=["id"])["id"].to_pylist()
        self.ids = set(self.rows)
        self.pairs = pq.read_table(truth_file).to_pylist()
        self.twins: dict[str, set[str]] = defaultdict(set)
        for pair in self.pairs:
            if pair["jaccard"] >= THRESHOLD:
                self.twins[pair["a"]].add(pair["b"])
                self.twins[pair["b"]].add(pair["a"])
        self.groups = _components(self.twins)
        self.exact = {frozenset((one["a"], one["b"])): one["jaccard"] for one in self.pairs}

    def score(self, kept: set[str], words: str = "jaccard") -> Score:
        """Judge the ids that a tool kept; `words` is the column of its own similarity."""
        unknown = len(kept - self.ids)
        if unknown:
            raise ValueError(f"{unknown} surviving ids are not in the corpus")
        removed = self.ids - kept
        near = [one for one in self.pairs if one["injected"] and one["bin"] != truth.EXACT.name]
        right = sum(1 for one in removed if self.twins.get(one))
        return Score(
            recall=_found((one for one in near if one["jaccard"] >= THRESHOLD), removed),
            own_recall=_found((one for one in near if one[words] >= THRESHOLD), removed),
            by_bin={
                each.name: _found(
                    (one for one in self.pairs if one["injected"] and one["bin"] == each.name),
                    removed,
                )
                for each in truth.BINS
            },
            precision=right / len(removed) if removed else 1.0,
            unsupported=sum(1 for one in removed if not self.twins.get(one, set()) & kept),
            groups_lost=sum(1 for group in self.groups if not group & kept),
            removed=len(removed),
        )

    def wrong_edges(self, duplicates: Path) -> int:
        """Count our edges (row, twin_row, jaccard) that are none or say another similarity."""
        edges = pq.read_table(duplicates, columns=["row", "twin_row", "jaccard"]).to_pylist()
        wrong = 0
        for one in edges:
            pair = frozenset((self.rows[one["row"]], self.rows[one["twin_row"]]))
            wrong += self.exact.get(pair) != one["jaccard"]
        return wrong

    def s_curve(self, bands: int, rows: int) -> dict[str, float]:
        """Return the share of each bin's pairs that these bands make candidates on average.

        1 - (1 - s^rows)^bands for a pair by itself (Leskovec, Rajaraman, Ullman, 3.4.2); in a group
        of several copies a pair may also be found through a third document.
        """
        expected: dict[str, list[float]] = defaultdict(list)
        for one in self.pairs:
            if one["injected"]:
                chance = 1.0 - (1.0 - one["jaccard"] ** rows) ** bands
                expected[one["bin"]].append(chance)
        return {name: float(np.mean(chances)) for name, chances in expected.items()}


def surviving_ids(folder: Path) -> set[str]:
    """Return the column `id` of the Parquet or Arrow stream files of a folder."""
    found: set[str] = set()
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".parquet" and path.name != "duplicates.parquet":
            found.update(pq.read_table(path, columns=["id"])["id"].to_pylist())
        elif path.suffix == ".arrow":
            with pa.memory_map(str(path)) as source:
                table = pa.ipc.open_stream(source).read_all()
                found.update(table["id"].to_pylist())
    return found


def _found(pairs: Iterable[dict[str, object]], removed: set[str]) -> float:
    """Return the share of pairs with a removed member; not a number for no pairs."""
    hits = [one["a"] in removed or one["b"] in removed for one in pairs]
    return sum(hits) / len(hits) if hits else float("nan")


def _components(twins: dict[str, set[str]]) -> list[set[str]]:
    """Return the connected components."""
    seen: set[str] = set()
    groups = []
    for start in twins:
        if start in seen:
            continue
        group, todo = {start}, [start]
        while todo:
            fresh = twins[todo.pop()] - group
            group |= fresh
            todo.extend(fresh)
        seen |= group
        groups.append(group)
    return groups
