"""The licence of a document as an SPDX id, and who says so.

What the record states comes first (its own column, or the `license` of the source in the recipe),
and is brought to SPDX's form: ids in any case, the addresses of Creative Commons, the names people
write. What is stated and not known becomes `LicenseRef-...`, SPDX's form for any other licence.
Where the record states nothing, the text is asked (`curate.licences`).

>>> import pyarrow as pa
>>> stated = pa.array(["mit license", "https://creativecommons.org/licenses/by-sa/3.0/", "Ours!"])
>>> texts = pa.array(["", "", ""], pa.large_string())
>>> FAMILY.measure(stated, texts)["license_spdx"].to_pylist()
['MIT', 'CC-BY-SA-3.0', 'LicenseRef-Ours']
"""

import re
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from curate.licences import spdx_of
from curate.signals.base import Family, Signal

__all__ = ["FAMILY", "normalised"]

SIGNALS = {
    "license_spdx": Signal(pa.string(), "licence as an SPDX id or expression"),
    "license_source": Signal(pa.string(), "who states it: record, text or none"),
}

_IDS = (
    "0BSD AGPL-3.0-only AGPL-3.0-or-later Apache-1.1 Apache-2.0 Artistic-2.0 BSD-2-Clause "
    "BSD-3-Clause BSD-4-Clause BSL-1.0 CC-BY-2.0 CC-BY-2.5 CC-BY-3.0 CC-BY-4.0 CC-BY-NC-3.0 "
    "CC-BY-NC-4.0 CC-BY-NC-ND-3.0 CC-BY-NC-ND-4.0 CC-BY-NC-SA-3.0 CC-BY-NC-SA-4.0 CC-BY-ND-3.0 "
    "CC-BY-ND-4.0 CC-BY-SA-2.0 CC-BY-SA-2.5 CC-BY-SA-3.0 CC-BY-SA-4.0 CC-PDDC CC-PDM-1.0 CC0-1.0 "
    "EPL-1.0 EPL-2.0 EUPL-1.2 GFDL-1.3-only GFDL-1.3-or-later GPL-2.0-only GPL-2.0-or-later "
    "GPL-3.0-only GPL-3.0-or-later ISC LGPL-2.1-only LGPL-2.1-or-later LGPL-3.0-only "
    "LGPL-3.0-or-later MIT MIT-0 MPL-1.1 MPL-2.0 MS-PL NCSA ODbL-1.0 ODC-By-1.0 OFL-1.1 "
    "OpenSSL PDDL-1.0 PSF-2.0 Python-2.0 Unlicense WTFPL Zlib"
)
_NAMES = {
    "apache": "Apache-2.0",
    "apache 2": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "bsd-2": "BSD-2-Clause",
    "bsd-3": "BSD-3-Clause",
    "cc0": "CC0-1.0",
    "cc zero": "CC0-1.0",
    "gpl-2.0": "GPL-2.0-only",
    "gpl-2.0+": "GPL-2.0-or-later",
    "gpl-3.0": "GPL-3.0-only",
    "gpl-3.0+": "GPL-3.0-or-later",
    "gplv2": "GPL-2.0-only",
    "gplv3": "GPL-3.0-only",
    "agpl-3.0": "AGPL-3.0-only",
    "lgpl-2.1": "LGPL-2.1-only",
    "lgpl-3.0": "LGPL-3.0-only",
    "mit license": "MIT",
    "the mit license": "MIT",
    "odc-by": "ODC-By-1.0",
}
_KNOWN = {name.lower(): name for name in _IDS.split()} | _NAMES
_COMMONS = re.compile(
    r"(?:https?:)?//(?:www\.)?creativecommons\.org/"
    r"(?:licenses/(by(?:-nc)?(?:-nd|-sa)?)/([1-4]\.[05])|publicdomain/(zero|mark)/1\.0)",
    re.IGNORECASE,
)
_SPOKEN = re.compile(r"cc[ -]by((?:-nc)?(?:-nd|-sa)?)[ -]([1-4]\.[05])", re.IGNORECASE)
_EXPRESSION = re.compile(r"[()A-Za-z0-9.+\- ]{1,200}")
_OTHER = re.compile(r"[^A-Za-z0-9.-]+")
_HINTS = ["licen", "permission", "redistribut", "public domain", "fuck you", "spdx"]
_MAX_STATED = 200


def normalised(stated: str) -> str | None:
    """Return the SPDX id or expression for what a record states, None for white space.

    >>> normalised("(mit or Apache-2.0)"), normalised("CC BY-SA 4.0"), normalised(" ")
    ('(MIT OR Apache-2.0)', 'CC-BY-SA-4.0', None)
    """
    text = " ".join(stated[: 2 * _MAX_STATED].split())
    if not text:
        return None
    known = _KNOWN.get(text.lower())
    if known is not None:
        return known
    match = _COMMONS.match(text)
    if match and match[1]:
        return f"CC-{match[1].upper()}-{match[2]}"
    if match:
        return "CC0-1.0" if match[3].lower() == "zero" else "CC-PDM-1.0"
    match = _SPOKEN.fullmatch(text)
    if match:
        return f"CC-BY{match[1].upper()}-{match[2]}"
    return _expression(text) or _reference(text)


def _expression(text: str) -> str | None:
    """Return an expression of known ids joined by AND, OR or WITH; None if it is another thing."""
    if not _EXPRESSION.fullmatch(text):
        return None
    words = text.replace("(", "( ").replace(")", " )").split()
    known = []
    for word in words:
        if word.upper() in ("AND", "OR", "WITH"):
            known.append(word.upper())
        elif word in "()":
            known.append(word)
        elif word.lower() in _KNOWN or (known and known[-1] == "WITH"):
            known.append(_KNOWN.get(word.lower(), word))
        elif word.startswith("LicenseRef-"):
            known.append(word)
        else:
            return None
    is_joined = len(known) == 1 or any(word in ("AND", "OR", "WITH") for word in known)
    return " ".join(known).replace("( ", "(").replace(" )", ")") if is_joined else None


def _reference(text: str) -> str | None:
    name = _OTHER.sub("-", text).strip("-.")[:_MAX_STATED]
    return f"LicenseRef-{name}" if name else None


def _measure(stated: Any, texts: Any) -> Any:
    column = pl.Series("stated", pl.from_arrow(stated), dtype=pl.String)
    names = {name: normalised(name) for name in column.unique().drop_nulls().to_list()}
    found = [None if name is None else names[name] for name in column.to_list()]
    sources = ["none" if spdx is None else "record" for spdx in found]
    silent = [row for row, spdx in enumerate(found) if spdx is None]
    if silent:
        text = pl.Series("text", pl.from_arrow(texts.take(pa.array(silent))), dtype=pl.String)
        # Reading a text in Python is slow, and most say nothing of licences.
        hinted = text.str.contains_any(_HINTS, ascii_case_insensitive=True).fill_null(value=False)
        for row, content in zip(
            pl.Series(silent).filter(hinted).to_list(), text.filter(hinted), strict=True
        ):
            spdx, _ = spdx_of(content)
            if spdx is not None:
                found[row], sources[row] = spdx, "text"
    null = texts.is_null()
    columns = [pa.array(found, pa.string()), pa.array(sources, pa.string())]
    nothing = pa.scalar(None, pa.string())
    columns = [pc.if_else(null, nothing, one) for one in columns]
    return pa.table(columns, names=list(SIGNALS))


FAMILY = Family(
    name="license", signals=SIGNALS, measure=_measure, reads=("license", "text"), default=False
)
