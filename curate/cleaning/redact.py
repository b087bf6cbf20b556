r"""Redaction: what identifies a person or opens a door becomes a placeholder.

Candidates come from linear expressions in Rust, the few that match are judged in plain Python
(check digits, registries, what stands around). The same thing in one document has the same
placeholder, numbered by first appearance: `<EMAIL_1>`, `<IP_2>`. Nothing in a placeholder is ever
matched again, and a text is looked at until nothing more is found, so that redaction is idempotent.

>>> import polars as pl
>>> setting = STEP.parse(["email"])
>>> texts = pl.Series(["Ask jo@site.org, bo@site.org or JO@site.org."])
>>> STEP.apply(texts, setting).texts.to_list()
['Ask <EMAIL_1>, <EMAIL_2> or <EMAIL_1>.']
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import polars as pl

from curate.cleaning.base import Change, Step, exempt_of, mapping_of, one_choice
from curate.cleaning.detect.base import Detector, Span
from curate.cleaning.detect.card import CARD
from curate.cleaning.detect.email import EMAIL
from curate.cleaning.detect.iban import IBAN
from curate.cleaning.detect.ip import IP
from curate.cleaning.detect.phone import PHONE
from curate.cleaning.detect.secret import SECRET
from curate.corpus.errors import InputError, one_of

__all__ = ["KINDS", "MASK", "STEP", "mask"]

# In this order: what is in a credential is no e-mail address, what is a card is no phone number.
DETECTORS: Mapping[str, Detector] = {
    detector.kind: detector for detector in (SECRET, EMAIL, IBAN, CARD, IP, PHONE)
}
KINDS = ("email", "ip", "phone", "card", "iban", "secret")
STYLES = ("numbered", "datatrove", "dolma")
MASK = "********"
_KEYS = ("kinds", "placeholders", "exempt")
_MAX_ROUNDS = 8
_NUMBERED = re.compile(rf"<({'|'.join(kind.upper() for kind in KINDS)})_([0-9]{{1,9}})>")
# What datatrove 0.9 (PIIFormatter) and Dolma 1.5 put in place; other kinds are numbered.
_DATATROVE = {
    "email": ("email@example.com", "firstname.lastname@example.org"),
    "ip": (
        "22.214.171.124",
        "126.96.36.199",
        "188.8.131.52",
        "184.108.40.206",
        "220.127.116.11",
        "18.104.22.168",
    ),
}
_DOLMA = {
    "email": ("|||EMAIL_ADDRESS|||",),
    "phone": ("|||PHONE_NUMBER|||",),
    "ip": ("|||IP_ADDRESS|||",),
}
_FIXED: Mapping[str, Mapping[str, tuple[str, ...]]] = {"datatrove": _DATATROVE, "dolma": _DOLMA}


def _parse(value: Any) -> dict[str, Any] | None:
    if value is None or value is False or value == []:
        return None
    given = (
        mapping_of("redact", value, _KEYS)
        if isinstance(value, Mapping)
        else {"kinds": [value] if isinstance(value, str) else value}
    )
    kinds = given.get("kinds")
    if not isinstance(kinds, (list, tuple)) or not kinds:
        raise InputError(f"clean: redact: found {kinds!r}; write a list of {', '.join(KINDS)}.")
    for kind in kinds:
        if kind not in KINDS:
            raise InputError(f"clean: redact: {one_of('kind', str(kind), KINDS)}")
    return {
        "kinds": [kind for kind in KINDS if kind in kinds],
        "placeholders": one_choice("redact", given.get("placeholders", "numbered"), STYLES),
        "exempt": exempt_of("redact", given.get("exempt")),
    }


def _apply(texts: pl.Series, setting: Mapping[str, Any] | None) -> Change | None:
    return None if setting is None else _redact(texts, setting["kinds"], setting["placeholders"])


def mask(texts: pl.Series, setting: Mapping[str, Any]) -> pl.Series:
    """Hide in texts what `setting` redacts: for people to look at, not to keep.

    It is what redaction leaves, with its placeholders hidden: what is only found once something
    beside it has a placeholder is found here too.
    """
    kinds, style, seen = setting["kinds"], setting.get("placeholders", STYLES[0]), texts
    for one in dict.fromkeys((style, STYLES[0])):  # an address in place of an address hides little
        change = _redact(seen, kinds, one)
        seen = seen if change is None else seen.clone().scatter(change.rows, change.texts)
    rows = seen.ne_missing(texts).arg_true()
    pairs = zip(texts.gather(rows).to_list(), seen.gather(rows).to_list(), strict=True)
    hidden = [_hidden(before, after, kinds, style) for before, after in pairs]
    return texts.clone().scatter(rows, pl.Series(hidden, dtype=pl.String))


def _hidden(before: str, after: str, kinds: list[str], style: str) -> str:
    """Hide the placeholders that redaction put in place; those of the raw text stay."""
    for kind in kinds:
        for placeholder in _FIXED.get(style, {}).get(kind, ()):
            after = after.replace(placeholder, MASK)
    first = {kind.upper(): _next_number(before, kind) for kind in kinds}
    return _NUMBERED.sub(
        lambda m: MASK if m[1] in first and int(m[2]) >= first[m[1]] else m[0], after
    )


def _next_number(text: str, kind: str) -> int:
    """Return the first free number: placeholders that a text came with keep theirs."""
    return 1 + max((int(m[2]) for m in _NUMBERED.finditer(text) if m[1] == kind.upper()), default=0)


def _redact(texts: pl.Series, kinds: list[str], style: str) -> Change | None:
    detectors = [detector for kind, detector in DETECTORS.items() if kind in kinds]
    counts = {detector.kind: np.zeros(len(texts), dtype=np.int64) for detector in detectors}
    names: dict[tuple[int, str], Callable[[str], str]] = {}
    new: dict[int, str] = {}
    rows, seen = np.arange(len(texts), dtype=np.int64), texts
    for _ in range(_MAX_ROUNDS):
        # A number that was none beside another may be one beside a placeholder: look again.
        touched: set[int] = set()
        for detector in detectors:
            changed: list[int] = []
            for at, text, candidates in _matches(seen, detector):
                found = list(_judged(text, candidates, detector, style))
                if found:
                    row = int(rows[at])
                    if (row, detector.kind) not in names:
                        names[row, detector.kind] = _placeholders(text, detector.kind, style)
                    new[row] = _replaced(text, found, names[row, detector.kind])
                    counts[detector.kind][row] += len(found)
                    changed.append(at)
            if changed:
                seen = seen.clone().scatter(changed, [new[int(rows[at])] for at in changed])
                touched.update(changed)
        if not touched:
            break
        keep = np.array(sorted(touched), dtype=np.int64)
        rows, seen = rows[keep], seen.gather(keep)
    if not new:
        return None
    changed_rows = np.array(sorted(new), dtype=np.int64)
    return Change(
        rows=changed_rows,
        texts=pl.Series([new[row] for row in changed_rows.tolist()], dtype=pl.String),
        counts={kind: counts[kind][changed_rows] for kind in kinds},
    )


def _matches(texts: pl.Series, detector: Detector) -> Iterator[tuple[int, str, list[str]]]:
    """Yield (row, its text, what the detector's pattern matches there, in order)."""
    rows = pl.Series(np.arange(len(texts), dtype=np.uint32))
    if detector.needs:
        rows = rows.filter(texts.str.contains(detector.needs, literal=True).fill_null(value=False))
    rows = rows.filter(texts.gather(rows).str.contains(detector.pattern).fill_null(value=False))
    if len(rows):
        found = texts.gather(rows)
        matches = found.str.extract_all(detector.pattern)
        yield from zip(rows.to_list(), found.to_list(), matches.to_list(), strict=True)


def _judged(text: str, candidates: list[str], detector: Detector, style: str) -> Iterator[Span]:
    """Yield what the detector finds at its matches, in order and without overlap."""
    spared = _FIXED.get(style, {}).get(detector.kind, ())
    at = done = 0
    for candidate in candidates:
        start = text.find(candidate, at)
        assert start >= 0, "a pattern without assertions matches wherever its match stands"
        at = start + len(candidate)
        if start < done:
            continue  # inside of what the last match turned out to be
        for span in detector.spans(text, start, at):
            if text[span[0] : span[1]] not in spared:
                yield span
            done = span[1]


def _replaced(text: str, spans: list[Span], placeholder: Callable[[str], str]) -> str:
    pieces, at = [], 0
    for start, end, what in spans:
        pieces += [text[at:start], placeholder(what)]
        at = end
    return "".join([*pieces, text[at:]])


def _placeholders(text: str, kind: str, style: str) -> Callable[[str], str]:
    """Return what names things: the same for the same, in one document."""
    known: dict[str, str] = {}
    fixed = _FIXED.get(style, {}).get(kind)
    name, first = kind.upper(), 1 if fixed else _next_number(text, kind)

    def placeholder(what: str) -> str:
        if what not in known:
            number = len(known)
            known[what] = fixed[number % len(fixed)] if fixed else f"<{name}_{first + number}>"
        return known[what]

    return placeholder


STEP = Step(
    name="redact",
    order=50,
    default=None,
    off=None,
    parse=_parse,
    apply=_apply,
    counted="matches",
)
