"""A tokenizer: trained here, anybody's `tokenizer.json`, or plain bytes.

A trained tokenizer is byte-level BPE (GPT-2's alphabet and word split, no prefix space), so every
text survives a round trip; the plain one gives a byte an id. The special tokens have the first
ids, and text that spells one, such as `<|eos|>`, is text like any other. `curate.tokens.encoding`
encodes documents with it.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from curate.corpus.errors import InputError
from curate.mixture.keyed import apportion, keyed_order, nearest_prefix

__all__ = [
    "SPECIALS",
    "TextTokenizer",
    "byte_letters",
    "byte_tokenizer",
    "decode",
    "load_tokenizer",
    "sample_for_training",
    "token_bytes",
    "train_bpe",
]

_NAMES = ("bos", "eos", "pad", "mask", "cls", "sep", "fim_prefix", "fim_middle", "fim_suffix")
SPECIALS = tuple(f"<|{name}|>" for name in _NAMES) + tuple(f"<|spare_{i}|>" for i in range(16))
_MIN_VOCAB = len(SPECIALS) + 256
# What the tokenizers in use call their specials, most particular name first.
_KNOWN = {
    "bos": ("<|bos|>", "<|begin_of_text|>", "<|startoftext|>", "<bos>", "<s>", "[CLS]"),
    "eos": ("<|eos|>", "<|endoftext|>", "<|end_of_text|>", "<eos>", "</s>", "[SEP]"),
    "pad": ("<|pad|>", "<|padding|>", "<pad>", "[PAD]"),
    "mask": ("<|mask|>", "<mask>", "[MASK]"),
    "cls": ("<|cls|>", "[CLS]"),
    "sep": ("<|sep|>", "[SEP]"),
    "fim_prefix": ("<|fim_prefix|>", "<fim_prefix>"),
    "fim_middle": ("<|fim_middle|>", "<fim_middle>"),
    "fim_suffix": ("<|fim_suffix|>", "<fim_suffix>"),
}
# GPT-2's alphabet: the bytes that stand for themselves; the others are U+0100 and up, in order.
_PRINTABLE = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))


@dataclass(frozen=True)
class TextTokenizer:
    """A loaded `tokenizer.json`.

    Attributes:
        model: the `tokenizers.Tokenizer`; it does not recognise specials in text, cuts, pads and
            drops nothing, whatever the file says.
        specials: name -> id; `bos`, `eos` and `pad` always, the others where the file has them.
        vocab_size: highest id + 1.
        data: the file as it was read, its boundaries marked as special.
    """

    model: Any
    specials: dict[str, int]
    vocab_size: int
    data: dict[str, Any]

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """The narrowest type that holds every id: uint16 up to 65,536 ids, else uint32."""
        return np.dtype(np.uint16 if self.vocab_size <= 1 << 16 else np.uint32)


def train_bpe(texts: Iterable[str], *, vocab_size: int, min_frequency: int = 2) -> bytes:
    """Train a byte-level BPE tokenizer.

    Args:
        texts: the training sample; see `sample_for_training`.
        vocab_size: ids in all: 25 specials (`SPECIALS`), 256 bytes, then merges. A small sample
            gives fewer merges than asked.
        min_frequency: pairs that occur less often are not merged.

    Returns:
        The bytes of a `tokenizer.json`: the same for the same texts in any order and with any
        number of threads.

    Raises:
        InputError: `vocab_size` has no room for the specials and the bytes.
    """
    if vocab_size < _MIN_VOCAB:
        raise InputError(
            f"vocab_size is {vocab_size}, but {len(SPECIALS)} specials and 256 bytes need "
            f"{_MIN_VOCAB} ids; ask for {_MIN_VOCAB} or more"
        )
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    model = Tokenizer(models.BPE())
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    model.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        show_progress=False,
        special_tokens=list(SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    model.train_from_iterator(iter(texts), trainer)
    return str(model.to_str()).encode()


def byte_letters() -> list[str]:
    """Return the character that stands for each byte in GPT-2's alphabet.

    >>> letters = byte_letters()
    >>> letters[65], letters[0], letters[32]
    ('A', '\u0100', '\u0120')
    """
    others = sorted(set(range(256)) - set(_PRINTABLE))
    letters = {b: chr(b) for b in _PRINTABLE} | {b: chr(256 + i) for i, b in enumerate(others)}
    return [letters[byte] for byte in range(256)]


def byte_tokenizer() -> bytes:
    """Return a `tokenizer.json` whose ids are the bytes of the text, behind the 25 specials.

    >>> load_tokenizer(byte_tokenizer()).model.encode("Aa").ids == [25 + 65, 25 + 97]
    True
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    vocab = {name: i for i, name in enumerate((*SPECIALS, *byte_letters()))}
    model = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    model.decoder = decoders.ByteLevel()
    model.add_special_tokens(list(SPECIALS))
    return str(model.to_str()).encode()


def sample_for_training(
    doc_ids: Any, num_bytes: np.ndarray, source_codes: np.ndarray, *, max_bytes: int, seed: int
) -> np.ndarray:
    """Choose documents to train a tokenizer on: every source by its share of the bytes.

    Inside a source the documents come in keyed order up to the cut nearest to its share, so the
    sample misses `max_bytes` by at most half a document per source, a larger sample contains a
    smaller one, and another source changes the others' cut only. A source whose first document
    alone is more than twice its share gives nothing; if all do, the first document of the largest
    source is taken.

    Args:
        doc_ids: `binary(16)` array of n ids.
        num_bytes: int64 [n], UTF-8 bytes of each text.
        source_codes: int [n].
        max_bytes: size of the sample; everything is taken where there is no more.
        seed: the recipe's seed.

    Returns:
        bool [n].
    """
    sizes, codes = np.asarray(num_bytes, np.int64), np.asarray(source_codes, np.int64)
    total = int(sizes.sum())
    if total <= max_bytes:
        return np.ones(len(sizes), dtype=np.bool_)
    order = keyed_order(doc_ids, seed, "tokenizer")
    names = np.unique(codes)
    members = [order[codes[order] == name] for name in names]
    shares = [int(sizes[documents].sum()) for documents in members]
    mask = np.zeros(len(sizes), dtype=np.bool_)
    for documents, quota in zip(members, apportion(max_bytes, shares), strict=True):
        mask[documents[: nearest_prefix(sizes[documents], quota)]] = True
    if not int(sizes[mask].sum()):
        largest = members[int(np.argmax(shares))]
        mask[largest[sizes[largest] > 0][0]] = True
    return mask


def load_tokenizer(
    source: bytes | str | Path, specials: Mapping[str, str] | None = None
) -> TextTokenizer:
    """Load a `tokenizer.json`, a trained one or anybody's.

    Args:
        source: the file's bytes, or its path.
        specials: name -> the token's text, where the usual spellings do not fit.

    Raises:
        InputError: unreadable; no end-of-document token (bos falls back to eos, pad to eos); a
            named special that the file lacks; text that can spell a special id.
    """
    from tokenizers import Tokenizer

    where = "tokenizer" if isinstance(source, bytes) else f"tokenizer {source}"
    boundaries = {text for names in _KNOWN.values() for text in names}
    boundaries |= set((specials or {}).values())
    try:
        data = json.loads(source if isinstance(source, bytes) else Path(source).read_bytes())
        for token in data.get("added_tokens", []):
            # Only what is marked as special can be told from text that spells it.
            token["special"] |= token["content"] in boundaries
        if data["model"].get("dropout"):
            data["model"]["dropout"] = None  # ids by chance, in training only
        model = Tokenizer.from_str(json.dumps(data))
    except OSError as error:
        raise InputError(f"{where} cannot be read: {error.strerror}") from error
    except Exception as error:  # the library raises a bare Exception for a broken file
        raise InputError(f"{where} is not a tokenizer.json: {error}") from error
    model.no_truncation()
    model.no_padding()
    model.encode_special_tokens = True
    found = _find_specials(model, dict(specials or {}), where)
    vocab_size = max(model.get_vocab(with_added_tokens=True).values()) + 1
    _refuse_spellable(model, found, data, where)
    return TextTokenizer(model=model, specials=found, vocab_size=vocab_size, data=data)


def _find_specials(model: Any, named: dict[str, str], where: str) -> dict[str, int]:
    """Ids of the specials that a tokenizer has, by name."""
    missing = [text for text in named.values() if model.token_to_id(text) is None]
    if missing:
        raise InputError(f"{where} has no token {missing[0]!r}; name one that it has")
    found = {}
    for name in _NAMES:
        spellings = (named[name],) if name in named else _KNOWN[name]
        ids = [i for i in map(model.token_to_id, spellings) if i is not None]
        if ids:
            found[name] = ids[0]
    if "eos" not in found:
        raise InputError(
            f"{where} has no end-of-document token: none of {', '.join(_KNOWN['eos'])}; "
            "name the one it uses as `eos` (in a recipe under `tokenize.tokenizer.specials`)"
        )
    found.setdefault("bos", found["eos"])
    found.setdefault("pad", found["eos"])
    return {name: found[name] for name in _NAMES if name in found}


def _refuse_spellable(
    model: Any, specials: dict[str, int], data: dict[str, Any], where: str
) -> None:
    """A special id that plain text can produce would be a forged document boundary."""
    marked = {token["content"] for token in data["added_tokens"] if token["special"]}
    # Others may have fallen back to eos: it is named first.
    for name in sorted(specials, key=lambda name: name != "eos"):
        text = model.id_to_token(specials[name])
        if specials[name] not in model.encode(text, add_special_tokens=False).ids:
            continue
        told = f"{where} turns the plain text {text!r} into its {name} token; "
        if text in marked:
            raise InputError(
                f"{told}it is marked as special, but the {data['model'].get('type')} model itself "
                "spells it, so no text may be told from a boundary: bring another tokenizer"
            )
        raise InputError(f"{told}name a token that is in its added_tokens")


def decode(tokenizer: TextTokenizer, ids: np.ndarray) -> str:
    """Return the text of some ids, specials left out; the inverse of `encode` for one document."""
    return str(tokenizer.model.decode(np.asarray(ids).tolist(), skip_special_tokens=True))


def token_bytes(tokenizer: TextTokenizer) -> np.ndarray:
    """Count the bytes of text that each id stands for, int64 [vocab_size]; specials count 0.

    For byte-level tokenizers the counts of a document sum to the bytes of its text. For others
    (SentencePiece pieces, byte fallback, WordPiece) they are the bytes of the piece itself.
    """
    data = json.loads(tokenizer.model.to_str())
    special = {token["id"] for token in data["added_tokens"] if token["special"]}
    special |= set(tokenizer.specials.values())
    added = {token["id"] for token in data["added_tokens"]}
    byte_level = '"ByteLevel"' in json.dumps([data["pre_tokenizer"], data["decoder"]])
    counts = np.zeros(tokenizer.vocab_size, dtype=np.int64)
    for token, i in tokenizer.model.get_vocab(with_added_tokens=True).items():
        if i not in special:
            counts[i] = _piece_bytes(token, plain=i in added, byte_level=byte_level)
    return counts


def _piece_bytes(token: str, *, plain: bool, byte_level: bool) -> int:
    if byte_level and not plain:
        return len(token)  # GPT-2's alphabet: one character a byte
    if not plain and len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        return 1
    text = token if plain else token.replace("\u2581", " ").removeprefix("##")
    return len(text.encode())
