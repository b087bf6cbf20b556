"""One SELECT over a corpus's own tables: no word of it reaches the engine that is not known here.

polars' `SQLContext` opens files (`FROM read_csv(...)`) and obeys DROP. So a check's text is taken
apart, every word must be a keyword, a function or a table of a closed list or else a column, and
the engine gets a statement written anew from the parts. On the way the engine's traps are closed:
`1_000` is refused (it would read as an alias), a name without AS too, lengths are signed, decimals
are floats, and no integer wraps: sums and differences have 128 bits, products and powers are floats
(exact to 2^53; without end where too large, which fails a check).

>>> query = parse_select("SELECT COUNT(*) FROM verdicts WHERE kept -- those that stay")
>>> query.tables, query.names
(('verdicts',), ('kept',))
>>> query.text
'SELECT COUNT ( * ) FROM "verdicts" WHERE "kept"'
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from curate.corpus.errors import InputError, did_you_mean, one_of

__all__ = ["CHECKED", "Select", "parse_select"]

#: The tables a check may read; all are tables of `pipelines.corpus.TABLES`.
CHECKED = (
    "contamination",
    "cuts",
    "documents",
    "draws",
    "duplicates",
    "held_out",
    "lines",
    "quarantine",
    "revisions",
    "signals",
    "tokens",
    "verdicts",
)
_MAX_CHARS = 20_000
_MAX_DEPTH = 15  # polars' parser gives up at 47, and takes up to 3 for one bracket here
_MAX_OPERATORS = 300  # thousands in a row overflow polars' stack, and the process is gone
_FLAT = {",", ".", "(", ")"}
_TYPES = {"BIGINT", "BOOLEAN", "DOUBLE", "FLOAT", "INT", "INTEGER", "REAL", "VARCHAR"}
_CLAUSES = {"SELECT", "FROM", "WHERE", "GROUP", "HAVING", "ORDER", "LIMIT", "WITH"}
_MAX_INTEGER = 2**63 - 1
_WIDENED = {  # sign between operands -> the same with an operand that changes nothing but the type
    "+": "+ CAST ( 0 AS HUGEINT ) +",
    "-": "- CAST ( 0 AS HUGEINT ) -",
    "*": "* CAST ( 1 AS DOUBLE ) *",
}
_MINUS = "CAST ( -1 AS HUGEINT ) *"
_WIDE = {  # function -> what comes after its argument, in brackets
    "ABS": "+ CAST ( 0 AS HUGEINT )",
    "POW": "* CAST ( 1 AS DOUBLE )",
    "SUM": "* CAST ( 1 AS HUGEINT )",
}
_VALUES = {"NULL", "TRUE", "FALSE", "END"}  # keywords after which an operand has ended
_KEYWORDS = {
    *_CLAUSES,
    *_VALUES,
    *("AND", "ANTI", "AS", "ASC", "BETWEEN", "BY", "CASE", "CROSS", "DESC", "DISTINCT", "ELSE"),
    *("EXISTS", "FILTER", "FULL", "ILIKE", "IN", "INNER", "IS", "JOIN", "LEFT", "LIKE", "NOT"),
    *("NULLS", "FIRST", "LAST", "ON", "OR", "OUTER", "RIGHT", "SEMI", "THEN", "USING", "WHEN"),
}
_ALSO_FUNCTIONS = {"FIRST", "LAST", "LEFT", "RIGHT"}  # before a bracket; the first two by chance
_REFUSED = {  # words of SQL that would change the tables, or the meaning of "one SELECT"
    *("ALTER", "COPY", "CREATE", "DELETE", "DROP", "EXCEPT", "EXPLAIN", "FETCH", "INSERT"),
    *("INTERSECT", "INTO", "LATERAL", "NATURAL", "OVER", "PARTITION", "QUALIFY", "SHOW"),
    *("TABLE", "TRUNCATE", "UNION", "UNNEST", "UPDATE", "VALUES", "WINDOW"),
}
_UNSIGNED = {"ARRAY_LENGTH", "CHAR_LENGTH", "LENGTH", "OCTET_LENGTH", "STRPOS"}  # in polars
_FUNCTIONS = {
    *_UNSIGNED,
    *("ABS", "ARRAY_CONTAINS", "AVG", "CAST", "CEIL", "COALESCE", "CONCAT", "COUNT", "ENDS_WITH"),
    *("EXP", "FLOOR", "GREATEST", "LEAST", "LN", "LOG10", "LOWER", "MAX", "MEDIAN", "MIN", "MOD"),
    *("NULLIF", "POW", "QUANTILE_CONT", "QUANTILE_DISC", "REGEXP_LIKE", "REPLACE", "ROUND"),
    *("SIGN", "SQRT", "STARTS_WITH", "STDDEV", "SUBSTR", "SUM", "TRIM", "UPPER", "VARIANCE"),
}
_TOKEN = re.compile(
    r"""(?P<blank>\s+|--[^\n]*|/\*(?:[^*]|\*(?!/))*\*/)
      | (?P<number>[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?)(?![A-Za-z0-9_.])
      | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
      | "(?P<quoted>[^"\x00-\x1f]+)"
      | '(?P<string>(?:[^']|'')*)'
      | (?P<sign><=|>=|<>|!=|\|\||::|/(?!\*)|[-+*%=<>(),.])""",
    re.VERBOSE | re.ASCII,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Select:
    """A checked statement.

    Attributes:
        sql: as written.
        text: what the engine is given.
        tables: the corpus's tables it reads, sorted.
        names: what must be columns of those tables, sorted.
        is_count: it is `SELECT COUNT(*) FROM ...`, so that the rows counted have names.
    """

    sql: str
    text: str
    tables: tuple[str, ...]
    names: tuple[str, ...]
    is_count: bool


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str  # keyword, type, function, name, quoted, number, string or sign
    text: str  # keywords, types and functions in capitals

    @property
    def is_name(self) -> bool:
        return self.kind in ("name", "quoted")

    @property
    def ends_operand(self) -> bool:
        return self.kind in ("name", "quoted", "number", "string", "type") or self.is_(
            ")", *_VALUES
        )

    def is_(self, *texts: str) -> bool:
        """Say whether it is one of these keywords or signs."""
        return self.kind in ("keyword", "sign", "star") and self.text in texts


_END = _Token("end", "")


def parse_select(sql: str) -> Select:
    """Check one SELECT and write it anew.

    Raises:
        InputError: it is no single SELECT over the tables of `CHECKED`, or uses what is not known.
    """
    if len(sql) > _MAX_CHARS:
        raise InputError(f"{len(sql):,} characters are too many (limit {_MAX_CHARS:,})")
    tokens = _tokens(sql)
    if not tokens or not tokens[0].is_("SELECT", "WITH"):
        raise InputError(f"a check is one SELECT over the corpus's tables, found {_short(sql)}")
    if sum(token.kind in ("keyword", "sign") and token.text not in _FLAT for token in tokens) > (
        _MAX_OPERATORS
    ):
        raise InputError(f"more than {_MAX_OPERATORS} keywords and operators; split it")
    _check_brackets(tokens)
    views, aliases = _introduced(tokens)
    tables: set[str] = set()
    names: dict[str, None] = {}
    owners: dict[str, None] = {}
    clauses = [""]  # of the statement, and of each bracket inside it
    for before, token, after in zip([_END, *tokens], tokens, [*tokens[1:], _END], strict=False):
        _check_neighbours(before, token, after)
        inner = token.is_("(") and after.is_("SELECT")
        if before.is_("FROM", "JOIN") and not (token.is_name or inner):
            raise InputError("after FROM and JOIN stands a table, or a SELECT in brackets")
        if token.is_("("):
            clauses.append("")
        elif token.is_(")"):
            clauses.pop()
        elif token.is_(*_CLAUSES):
            clauses[-1] = token.text
        elif token.is_(",") and clauses[-1] == "FROM":
            raise InputError("join tables with JOIN ... USING (doc_id), not with a comma")
        if not token.is_name or before.is_("AS") or (after.is_("AS") and token.text in views):
            continue
        if before.is_("FROM", "JOIN"):
            if token.text not in views and token.text not in CHECKED:
                raise InputError(one_of("table", token.text, [*CHECKED, *views]))
            tables |= {token.text} - views
        elif after.is_("."):
            owners[token.text] = None
        elif token.text not in aliases:
            names[token.text] = None
    if not tables:
        raise InputError(f"it reads no table; there are: {', '.join(CHECKED)}")
    for owner in owners:
        if owner not in tables | views | aliases:
            raise InputError(one_of("table", owner, tables | views | aliases))
    counts = [token.text for token in tokens[:5]] == ["SELECT", "COUNT", "(", "*", ")"]
    return Select(
        sql=sql,
        text=_written(tokens),
        tables=tuple(sorted(tables)),
        names=tuple(sorted(names)),
        is_count=counts and len(tokens) > 5 and tokens[5].is_("FROM"),
    )


def _tokens(sql: str) -> list[_Token]:
    """Take a text apart; blanks and comments are left out."""
    found: list[_Token] = []
    place = 0
    while place < len(sql):
        match = _TOKEN.match(sql, place)
        if match is None:
            raise InputError(f"{_not_understood(sql[place:])} in {_short(sql)}")
        kind = str(match.lastgroup)
        place = match.end()
        if kind != "blank":
            found.append(_Token(kind, match[kind]))
    following = [*found[1:], _END]
    return [
        _classified(before, token, after)
        for before, token, after in zip([_END, *found], found, following, strict=False)
    ]


def _not_understood(rest: str) -> str:
    if number := re.match(r"[0-9][0-9A-Za-z_.]*", rest):
        return f"{number[0]!r} is no number; write it without `_`, as in 1000 or 0.5,"
    if rest[0] == ";":
        return "a check is one statement, without `;`,"
    if rest[0] in "'\"" or rest.startswith("/*"):
        return "a quotation or comment does not end"
    return f"{rest[0]!r} is nothing a check may use"


def _classified(before: _Token, token: _Token, after: _Token) -> _Token:
    """Say what a word is, from its neighbours where the word alone does not tell."""
    if token.kind == "sign" and token.text == "*":
        listed = before is _END or before.text in ("(", ",", ".")
        return _Token("star" if listed or before.text.upper() == "SELECT" else "sign", "*")
    if token.kind != "word":
        return token
    word = token.text.upper()
    opened = after.kind == "sign" and after.text == "("
    if before.text == "::" or (before.text.upper() == "AS" and word in _TYPES):
        if word not in _TYPES:
            raise InputError(one_of("type", word, _TYPES))
        return _Token("type", word)
    if word in _REFUSED:
        raise InputError(f"{word} is not allowed: a check is one SELECT over the corpus's tables")
    if word in _KEYWORDS and not (opened and word in _ALSO_FUNCTIONS):
        return _Token("keyword", word)
    if opened:
        if before.text.upper() in ("FROM", "JOIN") or word.startswith(("READ_", "SCAN_")):
            raise InputError(
                f"{token.text}(...) would read elsewhere; a check reads the corpus's own tables"
            )
        if word not in _FUNCTIONS:
            known = [name.lower() for name in _FUNCTIONS]
            near = did_you_mean(token.text.lower(), known)
            raise InputError(f"{token.text}() is no function that a check may use.{near}")
        return _Token("function", word)
    return _Token("name", token.text)


def _check_brackets(tokens: Sequence[_Token]) -> None:
    """Refuse brackets that do not match, and too many of them, or of NOT and minus, at a depth."""
    depths = [0]  # before each bracket that is open, and now
    for token in tokens:
        if token.is_("(", "NOT", "-"):
            depths[-1] += 1
        if depths[-1] > _MAX_DEPTH:
            raise InputError(f"brackets and NOT are nested too deeply (limit {_MAX_DEPTH})")
        if token.is_("("):
            depths.append(depths[-1])
        elif token.is_(")"):
            depths.pop()
            if not depths:
                raise InputError("its brackets do not match")
            depths[-1] = depths[-2] if len(depths) > 1 else 0
        elif not token.is_("NOT", "-"):
            depths[-1] = depths[-2] if len(depths) > 1 else 0
    if len(depths) > 1:
        raise InputError("a bracket is not closed")


def _introduced(tokens: Sequence[_Token]) -> tuple[set[str], set[str]]:
    """Return the names that WITH gives to SELECTs, and those that AS gives to anything."""
    views: set[str] = set()
    aliases: set[str] = set()
    casts = [False]  # whether the brackets that are open are those of CAST
    for before, token, after in zip([_END, *tokens], tokens, [*tokens[1:], _END], strict=False):
        if token.is_("("):
            casts.append(before.text == "CAST")
        elif token.is_(")"):
            casts.pop()
        if not token.is_("AS"):
            continue
        if casts[-1] != (after.kind == "type"):
            kinds = ", ".join(sorted(_TYPES)) if casts[-1] else "a name that is no type"
            raise InputError(f"AS {after.text}: here stands {kinds}")
        if after.is_("(") and before.is_name:
            views.add(before.text)
        elif after.is_name:
            aliases.add(after.text)
        elif after.kind != "type":
            raise InputError(f"AS wants a name after it, found {after.text!r}")
    for name in sorted(views | aliases):
        if name in CHECKED and name not in ("documents", "tokens", "lines"):
            raise InputError(f"AS {name}: that is a table of the corpus; choose another name")
    if clash := sorted(views & {*CHECKED}):
        raise InputError(f"WITH {clash[0]}: that is a table of the corpus; choose another name")
    return views, aliases


def _check_neighbours(before: _Token, token: _Token, after: _Token) -> None:
    """Refuse two operands side by side: polars would take the second for a name."""
    ended = before.kind == "star" or before.ends_operand
    begins = token.kind in ("name", "quoted", "number", "string", "function")
    if ended and begins:
        raise InputError(
            f"{before.text} {token.text}: an operator is missing between them, or AS before a name"
        )
    if token.is_("(") and before.is_name:
        raise InputError(f"{before.text}(...) is no function that a check may use")
    if token.is_(".") and not (before.is_name and (after.is_name or after.is_("*"))):
        raise InputError("a dot stands between a table and its column, as in verdicts.kept")


def _written(tokens: Sequence[_Token]) -> str:
    """Write the statement that the engine is given."""
    written: list[str] = []
    closing: list[str] = []  # what the bracket that is open needs at its end
    for before, token, after in zip([_END, *tokens], tokens, [*tokens[1:], _END], strict=False):
        function = before.text if before.kind == "function" else ""
        if token.kind == "function":
            written.append(f"CAST ( {token.text}" if token.text in _UNSIGNED else token.text)
        elif token.is_("("):
            closing.append(") AS BIGINT )" if function in _UNSIGNED else ")")
            written.append("(")
            if function in _WIDE:
                closing[-1] = f") {_WIDE[function]} )"
                written += [] if after.is_("DISTINCT") else ["("]
        elif token.is_("DISTINCT") and closing and closing[-1] == f") {_WIDE['SUM']} )":
            written.append("DISTINCT (")
        elif token.is_(",") and closing and closing[-1] == f") {_WIDE['POW']} )":
            written.append(f") {_WIDE['POW']} ,")
            closing[-1] = ")"
        elif token.is_(")"):
            written.append(closing.pop())
        elif token.is_(*_WIDENED):
            written.append(_sign(before, token, after))
        elif token.is_name:
            written.append(f'"{token.text}"')
        elif token.kind == "string":
            written.append(f"'{token.text}'")
        elif token.kind == "number":
            written.append(_number(token.text))
        else:
            written.append(token.text)
    return " ".join(written)


def _sign(before: _Token, token: _Token, after: _Token) -> str:
    """Write a sign; a minus before one operand is a factor, for the least integer has no other."""
    if token.kind == "star":
        return token.text
    if before.ends_operand:
        return _WIDENED[token.text]
    bound = before.is_("/", "%")  # to the operand after it, which a factor would not be
    return token.text if token.text != "-" or after.kind == "number" or bound else _MINUS


def _number(text: str) -> str:
    """Write a number: what is no 64-bit integer would be a decimal, which overflows too."""
    exact = text.isdigit() and int(text) <= _MAX_INTEGER
    return text if exact or "e" in text.lower() else f"{text}e0"


def _short(sql: str) -> str:
    text = repr(" ".join(sql.split()))
    return text if len(text) <= 60 else text[:57] + "..."
