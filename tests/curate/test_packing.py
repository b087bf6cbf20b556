"""Laws of the pack plan in every layout: nothing lost, copies apart, order keyed, little space."""

import hashlib
import time
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.corpus.errors import InputError
from curate.corpus.schema import schema_of
from curate.kernels.bestfit import best_fit
from curate.tokens.layouts import LAYOUTS, _earlier
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
    layout: str = "packed",
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
        layout=layout,
    )


def rows_of(plan: pa.Table) -> list[list[dict[str, int]]]:
    return plan.column("spans").to_pylist()


groups = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3)), max_size=30)
row_sizes = st.integers(1, 25)
whole_layouts = st.sampled_from(["packed", "stream", "padded"])
layouts = st.sampled_from(sorted(LAYOUTS))


@given(groups, row_sizes, whole_layouts)
def test_the_spans_of_every_copy_tile_its_document(
    group: list[tuple[int, int]], row_tokens: int, layout: str
) -> None:
    lengths, copies = [n for n, _ in group], [c for _, c in group]
    read = [np.zeros(n, np.int64) for n in lengths]
    for row in rows_of(plan_of(lengths, copies, row_tokens, layout=layout)):
        assert 0 < sum(span["length"] for span in row) <= row_tokens
        assert len({span["document"] for span in row}) == len(row), "copies are apart"
        for span in row:
            assert (span["shard"], span["source"]) == (3, 2 * span["document"])
            piece = read[span["document"]][span["start"] : span["start"] + span["length"]]
            assert len(piece) == span["length"] > 0
            piece += 1
    for seen, times in zip(read, copies, strict=True):
        assert (seen == times).all()


@given(groups, row_sizes)
def test_best_fit_cuts_no_document_that_fits_and_fills_rows_with_longer_ones(
    group: list[tuple[int, int]], row_tokens: int
) -> None:
    lengths, copies = [n for n, _ in group], [c for _, c in group]
    rows = rows_of(plan_of(lengths, copies, row_tokens))
    for row in rows:
        for span in row:
            length = lengths[span["document"]]
            whole, rest = divmod(length, row_tokens)
            assert span["start"] % row_tokens == 0
            end = span["start"] == whole * row_tokens
            assert span["length"] == (rest if end else row_tokens)
            assert length > row_tokens or (span["start"] == 0 and span["length"] == length)
    # The rows of a long document are neighbours but for those of others that end where it ends.
    stats = pack_stats(plan_of(lengths, copies, row_tokens), row_tokens)
    assert (stats.rows, stats.spans) == (len(rows), sum(map(len, rows)))
    assert stats.tokens == sum(n * c for n, c in group)
    assert stats.waste_tokens == stats.rows * row_tokens - stats.tokens
    assert stats.continued == sum(span["start"] > 0 for row in rows for span in row)


@given(groups, row_sizes)
def test_a_stream_is_full_but_for_the_last_row_of_a_layer(
    group: list[tuple[int, int]], row_tokens: int
) -> None:
    lengths, copies = [n for n, _ in group], [c for _, c in group]
    rows = rows_of(plan_of(lengths, copies, row_tokens, layout="stream"))
    expected = []
    for tokens in (sum(n for n, c in group if c > k) for k in range(3)):
        expected += [row_tokens] * (tokens // row_tokens)
        expected += [tokens % row_tokens] * (tokens % row_tokens > 0)
    assert [sum(span["length"] for span in row) for row in rows] == expected


@given(groups, row_sizes)
def test_other_layouts_give_every_document_rows_of_its_own(
    group: list[tuple[int, int]], row_tokens: int
) -> None:
    lengths, copies = [n for n, _ in group], [c for _, c in group]
    read = [n for n, c in group for _ in range(c) if n]
    padded = rows_of(plan_of(lengths, copies, row_tokens, layout="padded"))
    single = rows_of(plan_of(lengths, copies, row_tokens, layout="document"))
    assert all(len(row) == 1 for row in padded + single)
    assert len(padded) == sum(-(-n // row_tokens) for n in read)
    for before, after in pairwise(row[0] for row in padded):
        if after["start"]:
            assert after["document"] == before["document"]
            assert after["start"] == before["start"] + before["length"]
    assert [row[0] for row in single] == [
        row[0] | {"length": min(lengths[row[0]["document"]], row_tokens)}
        for row in padded
        if row[0]["start"] == 0
    ]


@given(st.lists(st.tuples(st.integers(1, 12), st.integers(0, 4)), max_size=60), st.integers(12, 20))
def test_best_fit_equals_its_slow_twin(pieces: list[tuple[int, int]], row_tokens: int) -> None:
    lengths = np.array([n for n, _ in pieces], np.int64)
    owners = np.array([d for _, d in pieces], np.int64)
    earlier = _earlier(owners)
    rows = np.empty(len(pieces), np.int64)
    num_rows = best_fit(lengths, earlier, row_tokens, rows)
    stacks: dict[int, list[int]] = {}
    inside: list[set[int]] = []
    for i, (length, owner) in enumerate(pieces):
        chosen = next(
            (
                (space, row)
                for space in sorted(stacks)
                if space >= length
                for row in reversed(stacks[space])
                if owner not in inside[row]
            ),
            None,
        )
        if chosen is None:
            chosen = row_tokens, len(inside)
            inside.append(set())
        else:
            stacks[chosen[0]].remove(chosen[1])
        space, row = chosen
        inside[row].add(owner)
        stacks.setdefault(space - length, []).append(row)
        assert rows[i] == row
    assert num_rows == len(inside)


@given(groups, st.randoms(use_true_random=False), layouts)
def test_the_order_of_the_input_does_not_matter(group, random, layout) -> None:
    numbers = list(range(len(group)))
    straight = plan_of([n for n, _ in group], [c for _, c in group], 16, layout=layout)
    random.shuffle(numbers)
    shuffled = [group[i] for i in numbers]
    again = plan_of(
        [n for n, _ in shuffled], [c for _, c in shuffled], 16, numbers=numbers, layout=layout
    )
    assert again.equals(straight)


@given(groups.filter(bool), st.sampled_from(["stream", "padded", "document"]))
def test_one_document_less_keeps_the_order_of_the_others(
    group: list[tuple[int, int]], layout: str
) -> None:
    def order(plan: pa.Table) -> list[int]:
        spans = [span for row in rows_of(plan) for span in row]
        return [span["document"] for span in spans if span["start"] == 0]

    lengths = [n for n, _ in group]
    with_last = order(plan_of(lengths, [c for _, c in group], 16, layout=layout))
    without = order(plan_of(lengths, [*(c for _, c in group[:-1]), 0], 16, layout=layout))
    assert without == [document for document in with_last if document != len(group) - 1]


def test_a_long_document_stands_in_neighbouring_rows() -> None:
    plan = rows_of(plan_of([100, *range(1, 30), 75], [1] * 31, 16))
    for document in (0, 30):
        places = [i for i, row in enumerate(plan) for s in row if s["document"] == document]
        assert places[-1] - places[0] < 100 // 16 + 75 // 16 + 1


def test_the_plan_has_the_contracts_schema_also_when_it_is_empty() -> None:
    made = [
        plan_of(lengths, copies, 4, layout=layout)
        for layout in LAYOUTS
        for lengths, copies in (([5, 6], [1, 2]), ([], []), ([5], [0]))
    ]
    for plan in made:
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
    with pytest.raises(InputError, match="Did you mean 'padded'"):
        plan_of([5], [1], 4, layout="paded")


def test_two_hundred_thousand_documents_are_packed_in_a_moment() -> None:
    n = 200_000
    random = np.random.default_rng(0)
    ids = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(16), n, [None, pa.py_buffer(random.bytes(16 * n))]
    )
    lengths = random.integers(2, 2000, n)
    zeros = np.zeros(n, np.int32)
    best_fit(lengths[:1], lengths[:1] * 0 - 1, 1024 * 2, lengths[:1].copy())  # compiles
    begin = time.process_time()
    plan = pack(
        lengths, zeros + 1, ids, shard=zeros, document=zeros, source=zeros, row_tokens=1024, seed=1
    )
    assert time.process_time() - begin < 5  # 0.2 s on the machine it was written on
    assert pack_stats(plan, 1024).waste_tokens < 0.001 * lengths.sum()
