"""Laws of the pack plan: nothing lost, rows full, copies apart, order keyed."""

import hashlib
import time

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.corpus.errors import InputError
from curate.corpus.schema import schema_of
from curate.tokens.packing import pack, pack_stats


def ids_of(numbers: list[int]) -> pa.Array:
    made = [hashlib.blake2b(str(n).encode(), digest_size=16).digest() for n in numbers]
    return pa.array(made, pa.binary(16))


def plan_of(
    lengths: list[int],
    copies: list[int],
    row_tokens: int,
    *,
    numbers: list[int] | None = None,
    seed: int = 7,
) -> pa.Table:
    """Pack documents that carry their number as their row in shard 3 and twice that as source."""
    numbers = list(range(len(lengths))) if numbers is None else numbers
    return pack(
        np.array(lengths, np.int64),
        np.array(copies, np.int32),
        ids_of(numbers),
        shard=np.full(len(lengths), 3, np.int32),
        document=np.array(numbers, np.int32),
        source=np.array(numbers, np.int16) * 2,
        row_tokens=row_tokens,
        seed=seed,
    )


groups = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3)), max_size=30)


@given(groups, st.integers(1, 25))
def test_the_spans_of_every_copy_tile_its_document(
    group: list[tuple[int, int]], row_tokens: int
) -> None:
    lengths, copies = [n for n, _ in group], [c for _, c in group]
    rows = plan_of(lengths, copies, row_tokens).column("spans").to_pylist()
    spans: dict[int, list[tuple[int, int]]] = {}
    for row in rows:
        for span in row:
            assert span["shard"] == 3
            assert span["source"] == 2 * span["document"]
            spans.setdefault(span["document"], []).append((span["start"], span["length"]))
    for document, (length, times) in enumerate(group):
        position = finished = 0
        for start, size in spans.pop(document, []):
            assert start == position
            assert size > 0
            position += size
            if position == length:
                position, finished = 0, finished + 1
        assert (position, finished) == (0, times if length else 0)
    assert not spans


@given(groups, st.integers(1, 25))
def test_rows_are_full_but_the_last_of_a_layer_and_hold_no_document_twice(
    group: list[tuple[int, int]], row_tokens: int
) -> None:
    lengths, copies = [n for n, _ in group], [c for _, c in group]
    plan = plan_of(lengths, copies, row_tokens)
    rows = plan.column("spans").to_pylist()
    sizes = [sum(span["length"] for span in row) for row in rows]
    layers = [sum(n for n, c in group if c > k) for k in range(3)]
    expected = []
    for tokens in layers:
        expected += [row_tokens] * (tokens // row_tokens)
        expected += [tokens % row_tokens] * (tokens % row_tokens > 0)
    assert sizes == expected
    assert all(len({span["document"] for span in row}) == len(row) for row in rows)
    stats = pack_stats(plan, row_tokens)
    assert (stats.rows, stats.tokens) == (len(rows), sum(layers))
    assert stats.spans == sum(map(len, rows))
    assert stats.waste_tokens == len(rows) * row_tokens - sum(layers)


@given(groups, st.randoms(use_true_random=False))
def test_the_order_of_the_input_does_not_matter(group, random) -> None:
    numbers = list(range(len(group)))
    straight = plan_of([n for n, _ in group], [c for _, c in group], 16)
    random.shuffle(numbers)
    shuffled = [group[i] for i in numbers]
    again = plan_of([n for n, _ in shuffled], [c for _, c in shuffled], 16, numbers=numbers)
    assert again.equals(straight)


@given(groups.filter(bool))
def test_one_document_less_keeps_the_order_of_the_others(group: list[tuple[int, int]]) -> None:
    def order(plan: pa.Table) -> list[int]:
        spans = [span for row in plan.column("spans").to_pylist() for span in row]
        return [span["document"] for span in spans if span["start"] == 0]

    lengths = [n for n, _ in group]
    with_last = order(plan_of(lengths, [c for _, c in group], 16))
    without = order(plan_of(lengths, [*(c for _, c in group[:-1]), 0], 16))
    assert without == [document for document in with_last if document != len(group) - 1]


def test_the_plan_has_the_contracts_schema_also_when_it_is_empty() -> None:
    for plan in (plan_of([5, 6], [1, 2], 4), plan_of([], [], 4), plan_of([5], [0], 4)):
        assert plan.schema.equals(schema_of("plan"), check_metadata=True)
        plan.validate(full=True)
    assert pack_stats(plan_of([], [], 4), 4).rows == 0


def test_the_seed_and_the_layer_change_the_order() -> None:
    def order(plan: pa.Table) -> list[int]:
        return [span["document"] for row in plan.column("spans").to_pylist() for span in row]

    twice = order(plan_of([4] * 50, [2] * 50, 4))
    assert twice[:50] != twice[50:]
    assert sorted(twice[:50]) == sorted(twice[50:]) == list(range(50))
    assert twice[:50] == order(plan_of([4] * 50, [1] * 50, 4))
    assert twice[:50] != order(plan_of([4] * 50, [1] * 50, 4, seed=8))


def test_a_row_needs_room_for_a_token() -> None:
    with pytest.raises(InputError, match="row_tokens must be 1 or more, got 0"):
        plan_of([5], [1], 0)


def test_two_hundred_thousand_documents_are_packed_in_a_moment() -> None:
    n = 200_000
    random = np.random.default_rng(0)
    ids = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(16), n, [None, pa.py_buffer(random.bytes(16 * n))]
    )
    lengths = random.integers(2, 2000, n)
    zeros = np.zeros(n, np.int32)
    begin = time.process_time()
    plan = pack(
        lengths, zeros + 1, ids, shard=zeros, document=zeros, source=zeros, row_tokens=1024, seed=1
    )
    assert time.process_time() - begin < 5  # 0.2 s on the machine it was written on
    assert pack_stats(plan, 1024).waste_tokens < 1024
