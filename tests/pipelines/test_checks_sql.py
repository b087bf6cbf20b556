"""A check is one SELECT over the corpus's own tables: nothing else of SQL reaches the engine."""

import math
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from curate.corpus.errors import InputError
from pipelines.checking import READY_MADE
from pipelines.checks.select import CHECKED, parse_select
from pipelines.corpus import TABLES

FRAMES = {
    "verdicts": pl.LazyFrame(
        {
            "doc_id": ["a", "b", "c"],
            "source": ["x", "x", "y"],
            "kept": [True, False, True],
            "reasons": [[], ["r"], []],
            "num_bytes": [10, 20, 30],
        }
    ),
    "tokens": pl.LazyFrame({"doc_id": ["a", "c"], "source": ["x", "y"], "tokens": [3, 5]}),
    "contamination": pl.LazyFrame({"doc_id": ["b"]}),
}

# what is written -> what it must say; nothing of it may reach polars
REFUSED = {
    "DROP TABLE verdicts": "DROP is not allowed",
    "DELETE FROM verdicts": "DELETE is not allowed",
    "INSERT INTO tokens SELECT 1": "INSERT is not allowed",
    "SHOW TABLES": "SHOW is not allowed",
    "EXPLAIN SELECT kept FROM verdicts": "EXPLAIN is not allowed",
    "FROM verdicts": "a check is one SELECT",
    "": "a check is one SELECT",
    "kept = 1": "a check is one SELECT",
    "SELECT 1 FROM tokens; DROP TABLE tokens": "one statement, without `;`",
    "SELECT 1 FROM tokens;": "one statement, without `;`",
    "SELECT COUNT(*) FROM read_csv('secret.csv')": "read_csv(...) would read elsewhere",
    "SELECT COUNT(*) FROM READ_PARQUET /**/ ('s3://bucket/x')": "would read elsewhere",
    "SELECT COUNT(*) FROM scan_ndjson('x') AS verdicts": "would read elsewhere",
    "SELECT (SELECT COUNT(*) FROM read_ipc('x')) FROM tokens": "would read elsewhere",
    "SELECT COUNT(*) FROM tokens JOIN read_json('x') USING (doc_id)": "would read elsewhere",
    "SELECT COUNT(*) FROM \"read_csv\"('x')": "unknown table 'read_csv'",
    "SELECT \"read_csv\"('x') FROM tokens": "is no function that a check may use",
    "SELECT COUNT(*) FROM 'secret.csv'": "after FROM and JOIN stands a table",
    'SELECT COUNT(*) FROM "secret.csv"': "unknown table 'secret.csv'",
    "SELECT COUNT(*) FROM https.x": "unknown table 'https'",
    "SELECT COUNT(*) FROM raw": "unknown table 'raw'",
    "SELECT COUNT(*) FROM verdict": "Did you mean 'verdicts'?",
    "SELECT COUNT(*) FROM VERDICTS": "unknown table 'VERDICTS'",
    "SELECT COUNT(*) FROM (tokens)": "a SELECT in brackets",
    "SELECT COUNT(*) FROM verdicts, tokens": "JOIN ... USING (doc_id)",
    "SELECT COUNT(*) FROM verdicts NATURAL JOIN tokens": "NATURAL is not allowed",
    "SELECT 1 FROM tokens UNION ALL SELECT 2 FROM tokens": "UNION is not allowed",
    "SELECT COUNT(*) OVER () FROM tokens": "OVER is not allowed",
    "SELECT tokens INTO other FROM tokens": "INTO is not allowed",
    "SELECT COUNT(*) FROM tokens WHERE tokens >= 1_000": "'1_000' is no number; write it without",
    "SELECT COUNT(*) FROM tokens WHERE tokens >= 1000 _000": "AS before a name",
    "SELECT COUNT(*) n FROM tokens": "AS before a name",
    "SELECT COUNT(*) FROM tokens t": "AS before a name",
    "SELECT kept wanted FROM verdicts": "AS before a name",
    "SELECT E'x' FROM tokens": "an operator is missing",
    "SELECT 'a' 'b' FROM tokens": "an operator is missing",
    "SELECT now() FROM tokens": "now() is no function that a check may use",
    "SELECT random() FROM tokens": "random() is no function",
    "SELECT FIRST(doc_id) FROM tokens": "FIRST() is no function",
    "SELECT CONT(*) FROM tokens": "Did you mean 'count'?",
    "SELECT CAST(tokens AS DATE) FROM tokens": "AS DATE: here stands BIGINT",
    "SELECT tokens::text FROM tokens": "unknown type 'TEXT'",
    "SELECT tokens AS BIGINT FROM tokens": "a name that is no type",
    "SELECT COUNT(*) AS verdicts FROM tokens": "that is a table of the corpus",
    "WITH tokens AS (SELECT 1 FROM verdicts) SELECT * FROM tokens": "that is a table of the corpus",
    "SELECT v.kept FROM verdicts": "unknown table 'v'",
    "SELECT 1": "it reads no table",
    "SELECT COUNT(*) FROM tokens)": "brackets do not match",
    "SELECT ) )": "brackets do not match",
    "SELECT (COUNT(*) FROM tokens": "a bracket is not closed",
    "SELECT " + "(" * 16 + "1" + ")" * 16 + " FROM tokens": "nested too deeply (limit 15)",
    "SELECT COUNT(*) FROM verdicts WHERE " + "NOT " * 16 + "kept": "nested too deeply (limit 15)",
    "SELECT COUNT(*) FROM verdicts WHERE " + "NOT (" * 8 + "kept" + ")" * 8: "nested too deeply",
    "SELECT " + "- " * 16 + "tokens FROM tokens": "nested too deeply",
    "SELECT 1" + "+1" * 5000 + " FROM tokens": "more than 300 keywords and operators",
    "SELECT COUNT(*) FROM tokens WHERE 1=1" + " AND 1=1" * 500: "more than 300 keywords",
    "SELECT COUNT(*) FROM tokens /* and": "does not end",
    "SELECT 'a FROM tokens": "does not end",
    "SELECT `kept` FROM verdicts": "is nothing a check may use",
    "SELECT $$x$$ FROM verdicts": "is nothing a check may use",
    "SELECT \N{CYRILLIC SMALL LETTER A} FROM verdicts": "is nothing a check may use",
    "SELECT .5 FROM tokens": "a dot stands between",
    "SELECT 1 FROM tokens -- " + "x" * 20_000: "are too many",
}

# what is written -> what it gives; each was, or is near, a trap of the engine
GIVES: dict[str, Any] = {
    "SELECT COUNT(*) - 5 FROM verdicts": -2,
    "SELECT SUM(kept) - 5 FROM verdicts": -3,
    "SELECT SUM(DISTINCT num_bytes) - 61 FROM verdicts": -1,
    "SELECT MIN(ARRAY_LENGTH(reasons) - 5) FROM verdicts": -5,
    "SELECT MIN(LENGTH(source) - 5) FROM verdicts": -4,
    "SELECT MIN(STRPOS(source, 'z') - 5) FROM verdicts": -5,
    "SELECT SUM(tokens) / 3 FROM tokens": 8 / 3,
    "SELECT 1.0 * SUM(tokens) / 3 FROM tokens": 8 / 3,
    "SELECT SUM(tokens) /* one; two */ FROM tokens -- UNION": 8,
    "SELECT COUNT(*) FROM tokens WHERE source <> 'it''s -- no; comment'": 2,
    "SELECT COUNT(*) FROM verdicts WHERE ARRAY_CONTAINS(reasons, 'r')": 1,
    "SELECT COUNT(*) FILTER (WHERE kept) FROM verdicts": 2,
    "SELECT COUNT(*) FROM contamination JOIN verdicts USING (doc_id) WHERE kept": 0,
    "SELECT COUNT(*) FROM verdicts AS v JOIN tokens AS t ON v.doc_id = t.doc_id WHERE v.kept": 2,
    "SELECT COUNT(*) FROM verdicts ANTI JOIN tokens USING (doc_id)": 1,
    "SELECT MAX(share) FROM (SELECT SUM(tokens) / (SELECT SUM(tokens) FROM tokens) AS share "
    "FROM tokens GROUP BY source) AS shares": 0.625,
    "WITH a AS (SELECT MAX(tokens) AS most FROM tokens), b AS (SELECT COUNT(*) AS n FROM verdicts)"
    " SELECT MAX(most) / MAX(n) FROM a CROSS JOIN b": 5 / 3,
    'SELECT MAX("tokens"."tokens")::double FROM tokens': 5.0,
    "SELECT COUNT(*) FROM verdicts WHERE " + "NOT " * 15 + "kept": 1,
    "SELECT MAX(" + "(" * 14 + "tokens" + ")" * 14 + ") FROM tokens": 5,
    "SELECT " + "1 + ABS(" * 14 + "MAX(tokens)" + ")" * 14 + " FROM tokens": 19,
    "SELECT COUNT(*) FROM tokens WHERE 0" + "+1" * 290 + " > tokens": 2,
    "SELECT COUNT(*) FROM tokens WHERE tokens IN (" + "3," * 3000 + "4)": 1,
    "SELECT SUM(DISTINCT kept) - 2 FROM verdicts": -1,
    "SELECT MAX(-tokens) - MIN(- tokens * 2 / -1) FROM tokens": -9,
    "SELECT - (COUNT(*) - -5) FROM tokens": -7,
    "SELECT SUBSTR(MAX(source), STRPOS(MAX(source), 'y') + 1 - 1, 2 - 1) = 'y' FROM tokens": True,
    "SELECT COUNT(*) FROM tokens JOIN verdicts ON tokens.tokens + 25 = verdicts.num_bytes": 1,
    "SELECT COUNT(*) FROM verdicts WHERE num_bytes + 1 IN (11, 31)": 2,
    "SELECT MAX(n) FROM (SELECT num_bytes % 20 + 1 AS k, COUNT(*) AS n FROM verdicts "
    "GROUP BY num_bytes % 20 + 1) AS x": 2,
    "SELECT CAST(COUNT(*) AS DOUBLE) FROM tokens WHERE tokens BETWEEN 3 AND 4.5": 1.0,
}


MOST, LEAST = 2**63 - 1, -(2**63)
WIDE = {  # a query of the integers MOST, LEAST, 3 -> what Python's integers give
    "SELECT SUM(n) FROM t WHERE n > 0": MOST + 3,
    "SELECT SUM(n + n) FROM t WHERE n > 3": 2 * MOST,
    "SELECT SUM(DISTINCT n) - 9223372036854775807 FROM t WHERE n <> 3": -1 - MOST,
    "SELECT MAX(n) + 1 FROM t": MOST + 1,
    "SELECT MIN(n) - 1 FROM t": LEAST - 1,
    "SELECT MAX(n) - MIN(n) FROM t": MOST - LEAST,
    "SELECT -MIN(n) FROM t": -LEAST,
    "SELECT MAX(ABS(n)) FROM t": -LEAST,
    "SELECT ABS(MIN(n)) FROM t": -LEAST,
    "SELECT 9223372036854775807 + COUNT(*) FROM t": MOST + 3,
    "SELECT 9223372036854775807 * COUNT(*) FROM t": MOST * 3,
    "SELECT 99999999999999999999999999999999999999 + COUNT(*) FROM t": 10**38 + 2,
    "SELECT MAX(n) * MAX(n) FROM t": MOST**2,
    "SELECT MIN(n) * MAX(n) FROM t": LEAST * MOST,
    "SELECT MAX(n" + " * n" * 6 + ") FROM t": MOST**7,
    "SELECT SUM(n * n) FROM t": MOST**2 + LEAST**2 + 9,
    "SELECT MAX(POW(n, 8)) FROM t": LEAST**8,
    "SELECT POW(MIN(n) + 1 - 1, 3) FROM t": LEAST**3,
    "SELECT POW(2, 2 + 98) * COUNT(*) FROM t": 2**100 * 3,
    "SELECT POW(10, 300) / POW(10, 299) FROM t LIMIT 1": 10,
    "SELECT POW(CAST(3 AS INT), 30) FROM t LIMIT 1": 3**30,
    "SELECT CAST(2147483647 AS INT) + CAST(1 AS INT) FROM t LIMIT 1": 2**31,
    "SELECT CAST(65536 AS INT) * CAST(65536 AS INT) FROM t LIMIT 1": 2**32,
    "SELECT POW(10, 400) FROM t LIMIT 1": math.inf,
    "SELECT MAX(POW(n, 80)) FROM t": math.inf,
}


@pytest.mark.parametrize("sql", REFUSED)
def test_what_is_no_select_over_the_corpus_is_refused(sql: str) -> None:
    with pytest.raises(InputError) as refusal:
        parse_select(sql)
    assert REFUSED[sql] in str(refusal.value)


@pytest.mark.parametrize("sql", GIVES)
def test_what_is_accepted_means_what_it_says(sql: str) -> None:
    query = parse_select(sql)
    context = pl.SQLContext({name: FRAMES[name] for name in query.tables})
    assert context.execute(query.text, eager=True).item() == pytest.approx(GIVES[sql], rel=1e-12)


def integers(sql: str, *values: int) -> Any:
    """Return the one value that a query gives of the table `tokens` with these integers."""
    query = parse_select(sql.replace("FROM t", "FROM tokens"))
    frame = pl.LazyFrame({"n": values}, schema={"n": pl.Int64()})
    context = pl.SQLContext({"tokens": frame})
    return context.execute(query.text, eager=False).collect(engine="streaming").item()


@pytest.mark.parametrize("sql", WIDE)
def test_no_integer_wraps(sql: str) -> None:
    found = integers(sql, MOST, LEAST, 3)
    if isinstance(found, int):
        assert found == WIDE[sql]
    else:
        assert found == pytest.approx(WIDE[sql], rel=1e-12)


def combined(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Join (SQL, value of n -> (value, the most it could be, whether it is exact))."""

    def joined(sign: str, a: Any, b: Any) -> Any:
        def of(n: int) -> tuple[Any, int, bool]:
            (x, most_x, exact_x), (y, most_y, exact_y) = a[1](n), b[1](n)
            value = {"+": x + y, "-": x - y, "*": x * y}[sign]
            most = most_x * most_y if sign == "*" else most_x + most_y
            return value, most, exact_x and exact_y and sign != "*"

        return f"({a[0]} {sign} {b[0]})", of

    def signed(function: str, a: Any) -> Any:
        def of(n: int) -> tuple[Any, int, bool]:
            x, most, exact = a[1](n)
            return (abs(x) if function == "ABS" else -x), most, exact

        return f"{function} ({a[0]})", of

    return st.builds(joined, st.sampled_from("+-*"), inner, inner) | st.builds(
        signed, st.sampled_from(["ABS", "-"]), inner
    )


_LITERALS = st.integers(0, MOST).map(lambda i: (str(i), lambda n: (i, abs(i), True)))
_FORMULAS = st.recursive(
    st.just(("n", lambda n: (n, abs(n), True))) | _LITERALS, combined, max_leaves=8
)


@given(_FORMULAS, st.lists(st.integers(LEAST, MOST), min_size=1, max_size=4))
def test_formulas_agree_with_the_integers_of_python(formula: Any, values: list[int]) -> None:
    assume(formula[0].count("(") < 10)
    found = integers(f"SELECT SUM({formula[0]}) FROM t", *values)
    wanted = [formula[1](n) for n in values]
    total = sum(value for value, _, _ in wanted)
    if all(exact for _, _, exact in wanted):
        assert found == total
    else:
        assert found == pytest.approx(float(total), abs=1e-13 * sum(most for _, most, _ in wanted))


def test_the_trap_is_real_polars_opens_files_when_it_is_asked_to(tmp_path: Path) -> None:
    (tmp_path / "secret.csv").write_text("a\n1\n2\n")
    sql = f"SELECT COUNT(*) FROM read_csv('{tmp_path / 'secret.csv'}')"
    assert pl.SQLContext().execute(sql, eager=True).item() == 2
    with pytest.raises(InputError, match="would read elsewhere"):
        parse_select(sql)


def test_every_table_that_a_check_may_read_is_one_of_the_corpus() -> None:
    assert set(CHECKED) <= set(TABLES)
    for sql in READY_MADE.values():
        assert parse_select(sql).tables


_WORDS = st.sampled_from(
    [
        "SELECT",
        "FROM",
        "WHERE",
        "(",
        ")",
        ",",
        ".",
        "*",
        "::",
        "+",
        "-",
        "1",
        "0.5",
        "1e3",
        "'x'",
        '"y"',
        "AS",
        "WITH",
        "JOIN",
        "USING",
        "CAST",
        "BIGINT",
        "COUNT",
        "SUM",
        "LENGTH",
        "DISTINCT",
        "kept",
        "tokens",
        "verdicts",
        "read_csv",
        ";",
        "/*",
        "*/",
        "--",
        "\n",
        "doc_id",
        "CASE",
        "END",
        "NULL",
        "AND",
    ]
)


@given(st.lists(_WORDS, max_size=14).map(lambda words: "SELECT " + " ".join(words)))
def test_whatever_is_written_is_refused_or_becomes_the_same_statement_again(sql: str) -> None:
    try:
        query = parse_select(sql)
    except InputError:
        return
    assert "read_csv" not in query.text.replace('"read_csv"', "")
    assert set(query.tables) <= {"tokens", "verdicts"}
    try:
        pl.SQLContext({name: FRAMES[name] for name in query.tables}).execute(query.text)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return
