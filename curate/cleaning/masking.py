"""Raw text as people may see it: what redaction takes out of a document is hidden in the raw too.

The raw text is stored as it was read (`retain` is about that); wherever it is shown, it comes from
here. A match may only come together once other steps have run (a control character inside of an
address): texts in which those steps would uncover one are shown as they are after those steps.
"""

from collections.abc import Mapping
from typing import Any

import polars as pl
import pyarrow as pa

from curate.cleaning.clean import clean
from curate.cleaning.redact import mask

__all__ = ["masked"]


def masked(texts: pl.Series, settings: Mapping[str, Any], sources: pl.Series) -> pl.Series:
    """Return raw texts with everything hidden that these settings redact.

    Args:
        texts: n raw texts.
        settings: of the pass `clean`, as its manifest has them.
        sources: n names; texts of sources that redaction exempts are shown as they are.
    """
    setting = settings.get("redact")
    if setting is None or len(texts) == 0:
        return texts
    rows = (~sources.is_in(setting["exempt"])).fill_null(value=True).arg_true()
    raw, names = texts.gather(rows), _arrow(sources.gather(rows))
    before = {**settings, "redact": None, "truncate": None}
    hidden = mask(raw, setting)
    revised = mask(pl.Series(clean(_arrow(raw), before, names).texts), setting)
    # Hiding and then cleaning has to give what cleaning and then hiding gives.
    other = revised.ne_missing(pl.Series(clean(_arrow(hidden), before, names).texts)).arg_true()
    hidden = hidden.clone().scatter(other, revised.gather(other))
    return texts.clone().scatter(rows, hidden)


def _arrow(strings: pl.Series) -> Any:
    return strings.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(pa.large_string())
