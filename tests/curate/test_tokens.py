"""Tokenizers: lossless, deterministic, and with boundaries that no text can forge."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.corpus.errors import InputError
from curate.corpus.schema import check_format
from curate.mixture.keyed import keyed_order
from curate.tokens.encoding import encode, reference
from curate.tokens.shards import token_lengths, token_schema, token_table
from curate.tokens.tokenizer import (
    SPECIALS,
    TextTokenizer,
    byte_tokenizer,
    decode,
    load_tokenizer,
    sample_for_training,
    token_bytes,
    train_bpe,
)

ROOT = Path(__file__).resolve().parents[2]
TEXTS = [
    path.read_text(encoding="utf-8") for path in sorted((ROOT / "curate" / "tokens").glob("*.py"))
]


@pytest.fixture(scope="module")
def trained() -> bytes:
    return train_bpe(TEXTS, vocab_size=600)


@pytest.fixture(scope="module")
def tokenizer(trained: bytes) -> TextTokenizer:
    return load_tokenizer(trained)


def encoded(tokenizer: TextTokenizer, *texts: str) -> tuple[np.ndarray, np.ndarray]:
    values, offsets, *_ = encode(reference(tokenizer), pa.array(texts, pa.large_string()))
    return values, offsets


@pytest.mark.parametrize("kind", ["trained", "bytes"])
@given(texts=st.lists(st.text(), max_size=5))
def test_any_text_survives_the_round_trip(
    tokenizer: TextTokenizer, kind: str, texts: list[str]
) -> None:
    if kind == "bytes":
        tokenizer = load_tokenizer(byte_tokenizer())
    texts = [*texts, *(text.join(texts) for text in SPECIALS[:2])]
    values, offsets = encoded(tokenizer, *texts)
    sizes = token_bytes(tokenizer)
    for text, start, stop in zip(texts, offsets[:-1], offsets[1:], strict=True):
        ids = values[start:stop]
        assert decode(tokenizer, ids) == text
        assert (ids[0], ids[-1]) == (0, 1)
        assert (ids[1:-1] >= len(SPECIALS)).all()
        assert sizes[ids].sum() == len(text.encode())


def test_text_that_spells_a_special_is_text(tokenizer: TextTokenizer) -> None:
    values, offsets = encoded(tokenizer, *SPECIALS, "".join(SPECIALS), " ".join(SPECIALS))
    assert (values < len(SPECIALS)).sum() == 2 * (len(offsets) - 1)
    assert token_bytes(tokenizer)[: len(SPECIALS)].sum() == 0


def test_the_specials_come_first_in_the_order_of_the_contract(tokenizer: TextTokenizer) -> None:
    assert len(SPECIALS) == 25
    assert [tokenizer.model.id_to_token(i) for i in range(25)] == list(SPECIALS)
    assert list(tokenizer.specials.values()) == list(range(9))
    assert (tokenizer.vocab_size, tokenizer.dtype) == (600, np.dtype(np.uint16))


def test_training_gives_the_same_bytes_in_any_order_and_any_process(trained: bytes) -> None:
    assert train_bpe(reversed(TEXTS), vocab_size=600) == trained
    code = (
        "import sys, hashlib, pathlib\n"
        "from curate.tokens.tokenizer import train_bpe\n"
        "texts = [pathlib.Path(p).read_text(encoding='utf-8') for p in sys.argv[1:]]\n"
        "sys.stdout.buffer.write(train_bpe(texts, vocab_size=600))\n"
    )
    files = [str(path) for path in sorted((ROOT / "curate" / "tokens").glob("*.py"))]
    for parallel, seed in (("true", "1"), ("false", "2")):
        variables = {
            **os.environ,
            "TOKENIZERS_PARALLELISM": parallel,
            "PYTHONHASHSEED": seed,
            "PYTHONPATH": str(ROOT),
        }
        command = [sys.executable, "-c", code, *files]
        run = subprocess.run(command, env=variables, capture_output=True, check=True)
        assert run.stdout == trained


def test_a_vocabulary_without_room_for_bytes_is_refused() -> None:
    with pytest.raises(InputError, match=r"vocab_size is 280, .* need 281 ids"):
        train_bpe(TEXTS, vocab_size=280)
    assert load_tokenizer(train_bpe([], vocab_size=281)).vocab_size == 281


def edited(trained: bytes, renamed: dict[str, str], **changes: object) -> bytes:
    """The same tokenizer with other names for its specials, as other projects spell them."""
    data = json.loads(trained)
    for token in data["added_tokens"]:
        token["content"] = renamed.get(token["content"], token["content"] + "unused")
    vocab = data["model"]["vocab"]
    data["model"]["vocab"] = {
        (renamed.get(name, name + "unused") if name in SPECIALS else name): i
        for name, i in vocab.items()
    }
    return json.dumps({**data, **changes}).encode()


def test_a_foreign_tokenizer_serves_one_token_for_all_boundaries(trained: bytes) -> None:
    foreign = edited(
        trained,
        {"<|eos|>": "<|endoftext|>"},
        truncation={
            "direction": "Right",
            "max_length": 4,
            "strategy": "LongestFirst",
            "stride": 0,
        },
    )
    tokenizer = load_tokenizer(foreign)
    assert tokenizer.specials == {"bos": 1, "eos": 1, "pad": 1}
    text = "a text of more than four tokens with <|endoftext|> inside"
    values, _ = encoded(tokenizer, text)
    assert decode(tokenizer, values) == text
    assert (values == 1).sum() == 2


def test_a_boundary_that_is_not_marked_special_is_marked_when_loaded(trained: bytes) -> None:
    data = json.loads(edited(trained, {"<|bos|>": "<s>", "<|eos|>": "</s>"}))
    for token in data["added_tokens"]:
        token["special"] = False
    tokenizer = load_tokenizer(json.dumps(data).encode())
    assert (tokenizer.specials["bos"], tokenizer.specials["eos"]) == (0, 1)
    values, _ = encoded(tokenizer, "<s></s>")
    assert (values < 2).sum() == 2


def test_unusable_tokenizers_are_refused_in_plain_words(trained: bytes, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no end-of-document token"):
        load_tokenizer(edited(trained, {}))
    with pytest.raises(InputError, match=r"has no token '<end>'"):
        load_tokenizer(trained, {"eos": "<end>"})
    with pytest.raises(InputError, match=r"is not a tokenizer\.json"):
        load_tokenizer(b"{}")
    with pytest.raises(InputError, match=r"nothing\.json cannot be read: No such file"):
        load_tokenizer(tmp_path / "nothing.json")
    # An ordinary word of the vocabulary is no boundary: any text can say it.
    with pytest.raises(InputError, match="turns the plain text"):
        load_tokenizer(trained, {"eos": "e"})
    path = tmp_path / "tokenizer.json"
    path.write_bytes(edited(trained, {"<|spare_0|>": "<end>"}))
    assert load_tokenizer(path, {"eos": "<end>"}).specials["eos"] == 9


def test_a_model_that_spells_its_own_boundary_is_refused_by_its_name() -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    pieces = ["<pad>", "</s>", "<unk>", "\u2581", *"abcs</>"]
    model = Tokenizer(models.Unigram([(piece, -1.0) for piece in pieces], unk_id=2))
    model.pre_tokenizer = pre_tokenizers.Metaspace()
    model.add_special_tokens(["<pad>", "</s>", "<unk>"])
    told = "plain text '</s>' into its eos token; it is marked as special, but the Unigram model"
    with pytest.raises(InputError, match=told):
        load_tokenizer(str(model.to_str()).encode())


def test_an_added_token_that_is_named_as_a_boundary_is_special(trained: bytes) -> None:
    data = json.loads(trained)
    token = {**data["added_tokens"][0], "id": 600, "content": "extra", "special": False}
    data["added_tokens"].append(token)
    tokenizer = load_tokenizer(json.dumps(data).encode(), {"eos": "extra"})
    assert tokenizer.specials["eos"] == 600
    values, _ = encoded(tokenizer, "an extra extra")
    assert (values == 600).sum() == 1


def test_bytes_of_sentencepiece_like_pieces_are_counted() -> None:
    vocab = {"<unk>": 0, "</s>": 1, "\u2581the": 2, "<0x0A>": 3, "\u00e9": 4}
    data = {
        "version": "1.0",
        "added_tokens": [
            {
                "id": i,
                "content": name,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for i, name in enumerate(["<unk>", "</s>"])
        ],
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": None,
        "model": {"type": "BPE", "vocab": vocab, "merges": [], "unk_token": "<unk>"},
    }
    tokenizer = load_tokenizer(json.dumps(data).encode())
    assert token_bytes(tokenizer).tolist() == [0, 0, 4, 1, 2]


def test_a_large_vocabulary_needs_32_bits(tokenizer: TextTokenizer) -> None:
    for size, dtype in ((1 << 16, np.uint16), ((1 << 16) + 1, np.uint32)):
        assert dataclasses.replace(tokenizer, vocab_size=size).dtype == dtype


def ids_of(n: int) -> pa.Array:
    return pa.array([i.to_bytes(16, "little") for i in range(n)], pa.binary(16))


@given(st.integers(1, 10_000), st.integers(0, 5))
def test_the_sample_gives_each_source_its_share_of_the_bytes(max_bytes: int, seed: int) -> None:
    codes = np.array([0] * 100 + [1] * 300 + [5] * 20)
    sizes = np.concatenate([np.full(100, 30), np.full(300, 20), np.full(20, 50)])
    mask = sample_for_training(ids_of(420), sizes, codes, max_bytes=max_bytes, seed=seed)
    assert mask.any()
    for code, size in ((0, 30), (1, 20), (5, 50)):
        mine = int(sizes[mask & (codes == code)].sum())
        share = max_bytes * int(sizes[codes == code].sum()) / int(sizes.sum())
        assert abs(mine - share) <= size / 2 + 1 or (mask.sum() == 1 and mine == size)
    larger = sample_for_training(ids_of(420), sizes, codes, max_bytes=2 * max_bytes, seed=seed)
    assert (larger | ~mask).all() or mask.sum() == 1


def test_a_sample_of_everything_is_everything_and_giants_give_at_least_one() -> None:
    sizes, codes = np.array([1000, 2000, 3000]), np.array([0, 1, 1])
    knobs = {"seed": 1}
    assert sample_for_training(ids_of(3), sizes, codes, max_bytes=6000, **knobs).all()
    assert sample_for_training(ids_of(3), sizes, codes, max_bytes=10, **knobs).sum() == 1
    assert len(sample_for_training(ids_of(0), sizes[:0], codes[:0], max_bytes=1, **knobs)) == 0
    order = keyed_order(ids_of(3), 1, "tokenizer")
    first = next(int(i) for i in order if codes[i] == 1)
    assert sample_for_training(ids_of(3), sizes, codes, max_bytes=10, **knobs)[first]


def test_a_token_table_holds_each_document_once_without_copying(tokenizer: TextTokenizer) -> None:
    values, offsets = encoded(tokenizer, "one", "", "three little words")
    table = token_table(
        ids_of(3),
        pa.array(["a", "b", "a"]),
        pa.array(["train", "test", "train"]),
        np.array([3, 0, 18]),
        values=values,
        offsets=offsets,
    )
    table.validate(full=True)
    check_format(table.schema, "tokens")
    assert table.schema.equals(token_schema(np.uint16), check_metadata=True)
    assert table.column("tokens").chunk(0).values.to_numpy().ctypes.data == values.ctypes.data
    assert token_lengths(table).tolist() == np.diff(offsets).tolist()
    assert token_lengths(table.slice(1, 2)).tolist() == np.diff(offsets)[1:].tolist()
    assert token_lengths(table.schema.empty_table()).tolist() == []
    assert token_schema(np.uint32).field("tokens").type.value_type == pa.uint32()


def test_the_lengths_of_what_is_no_text_are_its_units() -> None:
    table = pa.table({"doc_id": ids_of(3), "units": pa.array([4, 1, 9], pa.int64())})
    assert token_lengths(table).tolist() == [4, 1, 9]
    assert token_lengths(table.slice(1)).tolist() == [1, 9]
    assert token_lengths(table.schema.empty_table()).dtype == np.int64


def test_the_ids_of_the_plain_tokenizer_are_the_bytes_behind_the_specials() -> None:
    tokenizer = load_tokenizer(byte_tokenizer())
    assert (tokenizer.vocab_size, tokenizer.dtype) == (281, np.dtype(np.uint16))
    assert list(tokenizer.specials.values()) == list(range(9))
    text = "na\u00efve \x00<|eos|>\n"
    values, _ = encoded(tokenizer, text)
    assert values.tolist() == [0, *(25 + byte for byte in text.encode()), 1]
    assert token_bytes(tokenizer).tolist() == [0] * 25 + [1] * 256
    assert byte_tokenizer() == byte_tokenizer()


def test_a_tokenizer_that_drops_merges_by_chance_does_not(trained: bytes) -> None:
    data = json.loads(trained)
    data["model"]["dropout"] = 0.9
    tokenizer = load_tokenizer(json.dumps(data).encode())
    plain = load_tokenizer(trained)
    assert np.array_equal(encoded(tokenizer, *TEXTS)[0], encoded(plain, *TEXTS)[0])
