"""Where a document was found: the host of its url, without `www.`, a port and a user's name.

It is the host and not the registered domain: which ending is public (`co.uk`) is a list that
changes every week. Null where there is no url, or one without a host.

>>> import pyarrow as pa
>>> urls = ["https://me@www.Example.org:8080/a?b#c", "file:///tmp/x", None]
>>> FAMILY.measure(pa.array(urls))["url_domain"].to_pylist()
['example.org', None, None]
"""

from typing import Any

import polars as pl
import pyarrow as pa

from curate.signals.base import Family, Signal, to_table

__all__ = ["FAMILY"]

SIGNALS = {"url_domain": Signal(pa.string(), "host of the url in lower case, without www.")}

_HOST = r"^\s*(?:[A-Za-z][A-Za-z0-9+.\-]*:)?//(?:[^/?#@]*@)?(\[[^\]/?#]+\]|[^/?#:@\s]+)"


def _measure(urls: Any) -> Any:
    series = pl.Series("url", pl.from_arrow(urls), dtype=pl.String)
    host = pl.col("url").str.extract(_HOST, 1).str.to_lowercase()
    frame = series.to_frame().select(url_domain=host.str.strip_prefix("www.").str.strip_suffix("."))
    frame = frame.with_columns(pl.when(pl.col("url_domain") != "").then(pl.col("url_domain")))
    return to_table(frame, SIGNALS)


FAMILY = Family(name="url", signals=SIGNALS, measure=_measure, reads=("url",))
