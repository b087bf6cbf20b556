"""Rules may drop the best of a duplicate group: then the next best that stands survives."""

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from curate.dedup.survivors import SCOPES, Edges, survivors


@st.composite
def groups(draw, max_docs=9):
    num_docs = draw(st.integers(1, max_docs))
    place = st.integers(0, num_docs - 1)
    pair = st.tuples(place, place).filter(lambda p: p[0] != p[1])
    pairs = st.just([]) if num_docs == 1 else st.lists(pair, max_size=10)
    near = draw(pairs)
    scores = st.sampled_from([0.8, 0.85, 0.9, 1.0])
    return {
        "rank": draw(st.permutations(range(num_docs))),
        "standing": draw(st.lists(st.booleans(), min_size=num_docs, max_size=num_docs)),
        "exact": draw(pairs),
        "near": near,
        "jaccard": draw(st.lists(scores, min_size=len(near), max_size=len(near))),
    }


def _edges(exact, near, jaccard):
    return Edges(
        exact=np.array(exact, dtype=np.int64).reshape(-1, 2),
        near=np.array(near, dtype=np.int64).reshape(-1, 2),
        jaccard=np.array(jaccard, dtype=np.float64),
    )


def _call(rank, standing, exact, near, jaccard):
    is_exact, is_near, kept_by = survivors(
        np.array(rank, dtype=np.int64),
        np.array(standing, dtype=bool),
        _edges(exact, near, jaccard),
    )
    return is_exact.tolist(), is_near.tolist(), kept_by.tolist()


def _class_of(num_docs, pairs):
    label = list(range(num_docs))
    for _ in label:
        for a, b in pairs:
            label[a] = label[b] = min(label[a], label[b])
    return label


def _slow(rank, standing, exact, near, jaccard):
    """Say the rule in words: walk the documents in keep order, one decision at a time."""
    docs = range(len(rank))
    of = _class_of(len(rank), exact)
    links = [(of[a], of[b], s) for (a, b), s in zip(near, jaccard, strict=True)]
    links += [(b, a, s) for a, b, s in links]
    keeper, speaker = {}, {}  # class -> the kept document that speaks for it; kept classes' own
    for doc in sorted((d for d in docs if standing[d]), key=lambda d: rank[d]):
        if of[doc] in keeper:
            continue
        reasons = [(-s, rank[speaker[b]], b) for a, b, s in links if a == of[doc] and b in speaker]
        reasons = [r for r in reasons if r[2] != of[doc]]
        if reasons:
            keeper[of[doc]] = speaker[min(reasons)[2]]
        else:
            keeper[of[doc]] = speaker[of[doc]] = doc
    for one in set(of) - set(keeper):  # nobody of the class stands: who says the same?
        reasons = [(-s, b) for a, b, s in links if a == one and b in speaker]
        if reasons:
            keeper[one] = speaker[min(reasons)[1]]
    kept_by = [-1 if keeper.get(of[d]) == d else keeper.get(of[d], -1) for d in docs]
    is_exact = [kept_by[d] >= 0 and of[d] in speaker for d in docs]
    is_near = [kept_by[d] >= 0 and of[d] not in speaker for d in docs]
    return is_exact, is_near, kept_by


_CHAIN = {  # the best is dropped by a rule; the middle covers the last
    "rank": [0, 1, 2],
    "standing": [False, True, True],
    "exact": [],
    "near": [(0, 1), (1, 2)],
    "jaccard": [0.9, 0.9],
}


@example(case=_CHAIN)
@given(case=groups())
def test_survivors_are_what_the_plain_words_say(case):
    assert _call(**case) == _slow(**case)


@example(case=_CHAIN)
@given(case=groups())
def test_no_group_with_a_good_member_is_lost(case):
    is_exact, is_near, kept_by = _call(**case)
    docs = range(len(case["rank"]))
    kept = {d for d in docs if case["standing"][d] and not is_exact[d] and not is_near[d]}
    group = _class_of(len(docs), [*case["exact"], *case["near"]])
    for doc in docs:
        if case["standing"][doc]:
            assert kept & {d for d in docs if group[d] == group[doc]}
    same = _class_of(len(docs), case["exact"])
    near = {frozenset((same[a], same[b])) for a, b in case["near"]}
    for doc in docs:
        if kept_by[doc] >= 0:
            assert kept_by[doc] in kept
            link = frozenset((same[doc], same[kept_by[doc]]))
            assert len(link) == 1 or link in near, "only a verified edge speaks"
    for a in kept:
        assert not any(frozenset((same[a], same[b])) in near for b in kept if same[a] != same[b])


def test_a_rule_that_drops_the_best_leaves_the_next_best(lab, tmp_path):
    """End to end: the longest twin is refused by a rule, so the next one stays."""
    texts = [f"{lab.text(1)} {' extra' * n}" for n in (3, 2, 1)] + [lab.text(i) for i in range(9)]
    rows = [{"id": f"d{i}", "text": text} for i, text in enumerate(texts)]
    lab.jsonl(tmp_path / "a.jsonl", rows)
    recipe = lab.recipe(tmp_path, rules={"add": {"short": "num_words < 83"}})
    lab.run(recipe, tmp_path / "store")
    corpus = lab.open("tiny", store=str(tmp_path / "store"))
    lab.check_laws(corpus)
    keys = lab.frame(corpus, "documents").select("doc_id", "key")
    verdicts = lab.frame(corpus, "verdicts").join(keys, on="doc_id")
    twins = {row["key"]: row for row in verdicts.iter_rows(named=True)}
    assert twins["d0"]["reasons"][0] == "rule:recipe.short"
    assert twins["d1"]["kept"]
    for key in ("d2", "d4"):
        assert twins[key]["reasons"] == ["duplicate:near"]
        assert twins[key]["kept_id"] == twins["d1"]["doc_id"]


def _counts(scope, a, b):
    return scope == "corpus" or -1 in (a, b) or (a == b) == (scope == "within_source")


@given(groups(), st.sampled_from(SCOPES), st.data())
def test_laws_of_scopes_and_of_documents_that_must_stay(group, scope, data):
    num_docs = len(group["rank"])
    docs = range(num_docs)
    sources = data.draw(st.lists(st.integers(-1, 2), min_size=num_docs, max_size=num_docs))
    exempt = {-1, *data.draw(st.sets(st.integers(0, 2)))}  # -1: of another corpus
    immune = [of in exempt for of in sources]
    standing = group["standing"]
    is_exact, is_near, kept_by = survivors(
        np.array(group["rank"]),
        np.array(standing),
        _edges(group["exact"], group["near"], group["jaccard"]),
        source=np.array(sources),
        scope=scope,
        immune=np.array(immune),
    )
    of = _class_of(num_docs, group["exact"])
    near = {frozenset((of[a], of[b])) for a, b in group["near"]}
    kept = [standing[d] and kept_by[d] < 0 for d in docs]

    def joined(a, b):
        same = of[a] == of[b] or frozenset((of[a], of[b])) in near
        return same and a != b and _counts(scope, sources[a], sources[b])

    for doc in docs:
        assert is_exact[doc] + is_near[doc] == (kept_by[doc] >= 0)
        if kept_by[doc] >= 0:
            assert kept[kept_by[doc]]
            assert joined(doc, int(kept_by[doc]))
            assert is_exact[doc] == (of[doc] == of[kept_by[doc]])
        if immune[doc] and standing[doc]:
            assert kept[doc]
        for other in docs:
            if kept[doc] and kept[other] and joined(doc, other):
                assert immune[doc]
                assert immune[other]
