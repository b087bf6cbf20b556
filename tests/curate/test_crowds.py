"""Comparing crowds lazily ends where comparing all their pairs ends."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.dedup.crowds import Crowds, survivors_of_crowds
from curate.dedup.survivors import SCOPES, Edges, survivors

NONE = np.empty((0, 2), dtype=np.int64)


@settings(deadline=None)
@given(st.data(), st.integers(2, 9), st.sampled_from(SCOPES))
def test_survivors_of_crowds_are_those_of_all_true_edges(data, num_docs, scope):
    flags = st.lists(st.booleans(), min_size=num_docs, max_size=num_docs)
    close = np.array(data.draw(st.lists(flags, min_size=num_docs, max_size=num_docs)))
    close = np.triu(close, 1)
    rank = np.array(data.draw(st.permutations(range(num_docs))))
    standing = np.array(data.draw(flags))
    source = np.array(data.draw(st.lists(st.integers(0, 1), min_size=num_docs, max_size=num_docs)))
    immune = source == data.draw(st.integers(0, 3))
    options = {"source": source, "scope": scope}
    true = np.argwhere(close)
    edges = Edges(exact=NONE, near=true, jaccard=np.full(len(true), 0.9))
    wanted = survivors(rank, standing, edges, immune=immune, **options)

    def score(left, right):
        return np.where(close | close.T, 0.9, 0.1)[left, right]

    nothing = Edges(exact=NONE, near=NONE, jaccard=np.empty(0))
    crowds = Crowds([np.arange(num_docs)], score, 0.8)
    exact, near, _, pairs, similar = survivors_of_crowds(
        crowds, rank, standing, nothing, immune=immune, **options
    )
    assert crowds.unreached == 0
    assert not exact.any()
    assert (standing & near).tolist() == (standing & wanted[1]).tolist()
    assert (similar == score(pairs[:, 0], pairs[:, 1])).all()
