"""The recipe's section `checks`: what must be true of a corpus before anybody trains on it.

A check is a SELECT over the corpus's tables and what it must give: one value (`equals`, `at_least`,
`at_most`, `above`, `below`, `between`, `one_of`), or a column of values (`within`, or `each` with
any of the others). `use:` names a query of `READY_MADE` instead of writing it.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from curate.corpus.errors import one_of
from pipelines.checks.select import Select, parse_select
from pipelines.section import Section

__all__ = ["READY_MADE", "Check", "Checks", "Expectation"]

READY_MADE = {
    "contaminated_documents": (
        "SELECT COUNT(*) FROM verdicts SEMI JOIN contamination USING (doc_id) WHERE kept"
    ),
    "documents": "SELECT COUNT(*) FROM verdicts WHERE kept",
    "licenses": ("SELECT DISTINCT license FROM documents SEMI JOIN tokens USING (doc_id)"),
    "pii_per_million_tokens": (
        "SELECT 1000000 * COALESCE(SUM(count), 0) / (SELECT SUM(tokens) FROM tokens) "
        "FROM revisions SEMI JOIN tokens USING (doc_id) WHERE step = 'redact'"
    ),
    "share_of_english": (
        "SELECT SUM(CASE WHEN language = 'en' THEN tokens ELSE 0 END) / SUM(tokens) "
        "FROM tokens JOIN signals USING (doc_id)"
    ),
    "share_of_tokens_by_source": (
        "SELECT source, SUM(tokens) / (SELECT SUM(tokens) FROM tokens) AS share "
        "FROM tokens GROUP BY source"
    ),
    "tokens": "SELECT SUM(tokens) FROM tokens",
}
_MAX_LISTED = 10_000

_Integer = Annotated[int, Field(ge=-(2**63), lt=2**63)]  # a larger one is taken as a float
Number = _Integer | Annotated[float, Field(allow_inf_nan=False)]
Scalar = bool | _Integer | Annotated[float, Field(allow_inf_nan=False)] | str
CheckName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]


class Expectation(Section):
    """What one value must be; exactly one of these is given."""

    equals: Scalar | None = None
    at_least: Number | str | None = None
    at_most: Number | str | None = None
    above: Number | str | None = None
    below: Number | str | None = None
    between: Annotated[list[Number], Field(min_length=2, max_length=2)] | None = Field(
        None, description="both ends belong to it"
    )
    one_of: Annotated[list[Scalar], Field(min_length=1, max_length=_MAX_LISTED)] | None = None

    @field_validator("between")
    @classmethod
    def _in_order(cls, value: list[Number] | None) -> list[Number] | None:
        if value is not None and value[0] > value[1]:
            raise ValueError(f"nothing is between {value[0]} and {value[1]}; the smaller one first")
        return value

    @property
    def given(self) -> tuple[str, Any]:
        """The expectation that is given, and its value."""
        ((name, value),) = self._all_given()
        return name, value

    def _all_given(self) -> list[tuple[str, Any]]:
        names = (*Expectation.model_fields, *_COLUMN_EXPECTATIONS)
        return [(n, v) for n in names if (v := getattr(self, n, None)) is not None]

    @model_validator(mode="after")
    def _one(self) -> "Expectation":
        given = [name for name, _ in self._all_given()]
        if len(given) != 1:
            names = [
                n
                for n in (*Expectation.model_fields, *_COLUMN_EXPECTATIONS)
                if n in self.__class__.model_fields
            ]
            found = f"found {' and '.join(given)}" if given else "found none"
            raise ValueError(f"wants exactly one of {', '.join(names)}; {found}")
        return self


_COLUMN_EXPECTATIONS = ("within", "each")


class Check(Expectation):
    """One query, and what it must give."""

    sql: str | None = Field(None, description="one SELECT over the corpus's tables")
    use: str | None = Field(None, description="a ready-made query's name instead of `sql`")
    within: Annotated[list[Scalar | None], Field(min_length=1, max_length=_MAX_LISTED)] | None = (
        Field(None, description="every value of the one column is in this list")
    )
    each: Expectation | None = Field(
        None, description="every value of the one column, or of the second one, is as said"
    )
    empty: Literal["fails", "passes"] = Field(
        "fails", description="what `within` and `each` make of a query that gives no row"
    )
    show: str | None = Field(None, description="a SELECT of the doc_ids to show when it fails")

    @field_validator("sql", "show")
    @classmethod
    def _is_select(cls, value: str | None) -> str | None:
        if value is not None:
            parse_select(value)
        return value

    @field_validator("use")
    @classmethod
    def _is_ready(cls, value: str | None) -> str | None:
        if value is not None and value not in READY_MADE:
            raise ValueError(one_of("ready-made query", value, READY_MADE))
        return value

    @model_validator(mode="after")
    def _one_query(self) -> "Check":
        if (self.sql is None) == (self.use is None):
            raise ValueError(
                "wants a query: either `sql`, or `use` with one of: " + ", ".join(READY_MADE)
            )
        return self

    @property
    def query(self) -> Select:
        """The query, checked."""
        sql = READY_MADE[self.use] if self.use is not None else self.sql
        assert sql is not None, "a check has a query"
        return parse_select(sql)

    @property
    def signals(self) -> tuple[str, ...]:
        """What it may read of the table `signals`, so that the recipe measures it."""
        queries = [self.query, *([parse_select(self.show)] if self.show is not None else [])]
        return tuple(name for one in queries if "signals" in one.tables for name in one.names)


Checks = dict[CheckName, Check]
