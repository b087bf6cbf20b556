"""Redaction against a labelled set made by rule, its laws, and texts made to slow it down."""

import json
import random
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.cleaning.clean import clean, parse_settings
from curate.cleaning.detect.card import luhn
from curate.cleaning.detect.iban import is_iban
from curate.cleaning.fields import hide_field
from curate.cleaning.masking import masked
from curate.cleaning.redact import KINDS, MASK, STEP, mask
from curate.corpus.errors import InputError

EACH = 240
Maker = Callable[[random.Random], str]
TOPS = ["com", "org", "net", "edu", "de", "co.uk", "com.br", "fr", "io", "gov", "info", "museum"]
TOPS += ["xn--p1ai", "jp", "ac.in"]
LETTERS = "abcdefghijklmnopqrstuvwxyz"
ALNUM = LETTERS + LETTERS.upper() + "0123456789"


def redact(texts: list[str | None], *kinds: str, **options: object) -> list[str | None]:
    setting = STEP.parse({"kinds": list(kinds or KINDS), **options})
    change = STEP.apply(pl.Series(texts, dtype=pl.String), setting)
    if change is None:
        return texts
    found = dict(zip(change.rows.tolist(), change.texts.to_list(), strict=True))
    return [found.get(row, text) for row, text in enumerate(texts)]


def some(r: random.Random, letters: str, count: int) -> str:
    return "".join(r.choices(letters, k=count))


def digits(r: random.Random, count: int) -> str:
    return some(r, "0123456789", count)


def word(r: random.Random) -> str:
    return some(r, "bcdfgklmnprstvz", 1) + "".join(
        some(r, "aeiou", 1) + some(r, "bdklmnrst", 1) for _ in range(r.randint(1, 4))
    )


def with_check_digit(r: random.Random, beginning: str, length: int) -> str:
    body = beginning + digits(r, length - len(beginning) - 1)
    return next(body + check for check in "0123456789" if luhn(body + check))


def email(r: random.Random) -> str:
    local = r.choice(
        [
            word(r),
            f"{word(r)}.{word(r)}",
            f"{word(r)}_{word(r)}{r.randint(1, 99)}",
            f"{word(r)}+{word(r)}",
            word(r).upper(),
            f"{word(r)}-{word(r)}",
            f"{some(r, LETTERS, 1)}.{word(r)}",
        ]
    )
    top = r.choice(TOPS)
    return f"{local}@{r.choice(['', 'mail.', 'cs.'])}{word(r)}{r.choice(['', '-' + word(r)])}.{top}"


def public_ip(r: random.Random) -> str:
    first = r.choice([17, 23, 34, 52, 66, 77, 81, 93, 104, 142, 151, 185, 193, 209, 217])
    if r.random() < 0.2:
        groups = [f"{r.randint(1, 0xFFFF):x}" for _ in range(6)]
        return r.choice(["2a00", "2607", "2400"]) + ":" + ":".join(groups) + ":1"
    return f"{first}.{r.randint(32, 251)}.{r.randint(1, 250)}.{r.randint(1, 254)}"


def nanp(r: random.Random, joint: str) -> str:
    area, office = r.randint(201, 989), r.randint(200, 999)
    return f"{area}{joint}{office}{joint}{r.randint(1000, 9999)}"


def phone(r: random.Random) -> str:
    return r.choice(
        [
            f"+1 {nanp(r, ' ')}",
            f"+1-{nanp(r, '-')}",
            f"+1{nanp(r, '')}",
            f"({r.randint(201, 989)}) {r.randint(200, 999)}-{r.randint(1000, 9999)}",
            nanp(r, "-"),
            nanp(r, "."),
            f"1-{nanp(r, '-')}",
            f"+44 20 {digits(r, 4)} {digits(r, 4)}",
            f"+44 (0)7{digits(r, 3)} {digits(r, 6)}",
            f"+49 {r.choice(['30', '171', '40'])} {digits(r, 7)}",
            f"+49 89/{digits(r, 6)}-{digits(r, 2)}",
            f"+33 {r.randint(1, 9)} 4{digits(r, 1)} {digits(r, 2)} 7{digits(r, 1)} {digits(r, 2)}",
            f"+81-3-{digits(r, 4)}-{digits(r, 4)}",
            f"+91 9{digits(r, 4)} {digits(r, 5)}",
            f"+358 40 {digits(r, 3)} {digits(r, 4)}",
            f"0049 30 {digits(r, 7)}",
            f"020 {r.randint(2, 8)}{digits(r, 3)} {digits(r, 4)}",
            f"07{digits(r, 3)} {digits(r, 6)}",
            f"0{r.randint(1, 5)} 4{digits(r, 1)} {digits(r, 2)} 9{digits(r, 1)} 3{digits(r, 1)}",
            f"(030) {digits(r, 7)}",
            f"0171/{digits(r, 7)}",
            f"Tel.: 0{r.randint(20, 99)} {digits(r, 6)}",
            f"phone: {r.randint(2, 9)}{digits(r, 9)}",
            f"call {r.randint(2, 9)}{digits(r, 2)} {digits(r, 3)} {digits(r, 4)}",
        ]
    )


def card(r: random.Random) -> str:
    beginning, length = r.choice(
        [
            ("4", 16),
            ("4", 16),
            ("51", 16),
            ("55", 16),
            ("2221", 16),
            ("34", 15),
            ("37", 15),
            ("6011", 16),
            ("65", 16),
            ("36", 14),
            ("3528", 16),
            ("62", 16),
            ("2202", 16),
        ]
    )
    number = with_check_digit(r, beginning, length)
    shapes = {16: (4, 4, 4, 4), 15: (4, 6, 5), 14: (4, 6, 4)}
    pieces, at = [], 0
    for size in shapes[length]:
        pieces.append(number[at : at + size])
        at += size
    return r.choice(["", " ", "-"]).join(pieces)


def iban(r: random.Random) -> str:
    country, length, letters = r.choice(
        [
            ("DE", 22, 0),
            ("GB", 22, 4),
            ("FR", 27, 0),
            ("NL", 18, 4),
            ("ES", 24, 0),
            ("NO", 15, 0),
            ("CH", 21, 0),
            ("PL", 28, 0),
            ("MT", 31, 4),
            ("BE", 16, 0),
            ("IT", 27, 1),
        ]
    )
    body = some(r, LETTERS.upper(), letters) + digits(r, length - 4 - letters)
    number = next(made for check in range(2, 99) if is_iban(made := f"{country}{check:02d}{body}"))
    if r.random() < 0.5:
        number = " ".join(number[at : at + 4] for at in range(0, length, 4))
    return number


def secret(r: random.Random) -> str:
    key = "\n".join(some(r, ALNUM + "+/", 64) for _ in range(4))
    return r.choice(
        [
            f"AKIA{some(r, LETTERS.upper() + '234567', 16)}",
            f"ghp_{some(r, ALNUM, 36)}",
            f"github_pat_{some(r, ALNUM, 22)}_{some(r, ALNUM, 59)}",
            f"glpat-{some(r, ALNUM, 20)}",
            f"xoxb-{digits(r, 12)}-{digits(r, 12)}-{some(r, ALNUM, 24)}",
            f"AIza{some(r, ALNUM + '-_', 34)}x",
            f"sk_live_{some(r, ALNUM, 24)}",
            f"sk-proj-{some(r, ALNUM, 48)}",
            f"hf_{some(r, ALNUM, 34)}",
            f"npm_{some(r, ALNUM, 36)}",
            f"-----BEGIN RSA PRIVATE KEY-----\n{key}\n-----END RSA PRIVATE KEY-----",
            f"-----BEGIN PRIVATE KEY-----\\n{key}\\n-----END PRIVATE KEY-----\\n",
            f"-----BEGIN OPENSSH PRIVATE KEY-----\n{key}",
            "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIx"
            f"{some(r, ALNUM, 12)}.{some(r, ALNUM, 43)}",
            f'api_key = "{some(r, ALNUM, 32)}"',
            f"API_KEY={some(r, ALNUM, 32)}",
            f"'client_secret': '{some(r, ALNUM, 40)}'",
            f"aws_secret_access_key = {some(r, ALNUM + '/+', 39)}a",
            f'password: "{some(r, ALNUM, 20)}"',
            f"https://{word(r)}:{some(r, ALNUM, 9)}@{word(r)}.com/",
        ]
    )


CONTEXTS = (
    "{}",
    "Please write to {} today.",
    "see ({}), or not",
    "<p>{}</p>",
    "- {}\n- next",
    '"{}",',
    "\u8054\u7cfb {} \u3002",
    "It was {}; then nothing.",
    "{}\nSecond line",
    "[{}]",
)


def not_email(r: random.Random) -> str:
    return r.choice(
        [
            f"npm install {word(r)}@{r.randint(0, 9)}.{r.randint(0, 20)}.{r.randint(0, 9)}",
            f"{word(r)}@{r.randint(2, 3)}x.png",
            f"git clone git@{word(r)}.com:{word(r)}/{word(r)}.git",
            f"@{word(r)}.setter",
            f"y = {some(r, LETTERS, 1)}@self.{r.choice(['weight', 'shape', 'T', 'data'])}",
            f"loss = x@w.{r.choice(['transpose', 'mean', 'to', 'sum'])}()",
            f"root@localhost:~# ls {word(r)}",
            f"https://medium.com/@{word(r)}/{word(r)}",
            f"{word(r)}@{word(r)}",
            f"a @ b.{word(r)}ed",
            f"https://{word(r)}:{word(r)}@{word(r)}.com/path",
            f"{word(r)}@^{r.randint(1, 9)}.{r.randint(0, 9)}.0",
            f"@media screen and (max-width: {r.randint(1, 9)}00px)",
            f"{some(r, '0123456789abcdef', 40)}@{some(r, '0123456789abcdef', 8)}",
            f"{word(r)} @ {r.randint(1, 20)}.{r.randint(0, 99)} EUR",
            f"logo@{r.randint(1, 4)}x.{word(r)}.svg",
            f"img/{word(r)}@{r.randint(1, 4)}x.ai",
            f"https://cdn.{word(r)}.com/npm/{word(r)}@{r.randint(1, 9)}.{r.randint(1, 9)}.0/x.js",
            f"uses: {word(r)}/{word(r)}@v{r.randint(1, 9)}.{r.randint(1, 9)}.{r.randint(1, 9)}",
            f"ssh://{word(r)}@{word(r)}.com/{word(r)}.git",
            f"/etc/systemd/{word(r)}@{word(r)}.service",
        ]
    )


def not_ip(r: random.Random) -> str:
    a, b, c, d = (r.randint(0, 31) for _ in range(4))
    return r.choice(
        [
            f"version {a}.{b}.{c}.{d + 40}",
            f"v{a}.{b}.{c + 60}.{d}",
            f"{word(r)}=={a}.{b}.{c + 50}.{d}",
            f"lib{word(r)}-{a}.{b}.{c}.{d + 90}.tar.gz",
            f"{a}.{b}.{c}.{d} {word(r).title()} of {word(r)}",
            f"10.{b}.{c}.{d}",
            f"192.168.{c}.{d}",
            f"127.0.0.{d}",
            f"172.16.{c}.{d}",
            f"169.254.{c}.{d}",
            f"198.51.100.{d}",
            f"203.0.113.{d}",
            f"255.255.255.{d}",
            f"1.3.6.1.4.1.{r.randint(1, 9999)}.{b}",
            f"{a}.{b}.{r.randint(256, 9999)}.{d}",
            f"Chrome/{a + 60}.0.{r.randint(1000, 4000)}.{d + 70}",
            f"{r.randint(10, 23)}:{r.randint(10, 59)}:{r.randint(10, 59)}",
            ":".join(some(r, "0123456789abcdef", 2) for _ in range(6)),
            ":".join(some(r, "0123456789abcdef", 2) for _ in range(16)),
            "std::vector<int>::iterator",
            f"fe80::{some(r, '123456789abcdef', 4)}",
            f"2001:db8::{some(r, '123456789abcdef', 4)}",
            f"fd00:{some(r, '123456789abcdef', 4)}::1",
            f"2021:{r.randint(10, 12)}:{r.randint(10, 28)} {r.randint(10, 23)}:00",
            f"{a}.{b}, {c}.{d}",
            f"{digits(r, 3)}.{digits(r, 3)}.{digits(r, 4)}",
            f"upgrade to {a}.{b}.{c + 40}.{d} from {a}.{b}.{c + 33}.{d}",
        ]
    )


def isbn10(r: random.Random) -> str:
    body = digits(r, 9)
    check = -sum((10 - place) * int(digit) for place, digit in enumerate(body)) % 11
    number = body + ("X" if check == 10 else str(check))
    return f"{number[0]}-{number[1:4]}-{number[4:9]}-{number[9]}"


def not_phone(r: random.Random) -> str:
    return r.choice(
        [
            f"ISBN {isbn10(r)}",
            isbn10(r),
            f"978-0-{digits(r, 3)}-{digits(r, 5)}-{digits(r, 1)}",
            f"20{digits(r, 2)}-0{r.randint(1, 9)}-1{r.randint(0, 9)}",
            f"0{r.randint(1, 9)}.1{r.randint(0, 2)}.20{digits(r, 2)}",
            f"0{r.randint(1, 9)}/1{r.randint(0, 2)}/19{digits(r, 2)}",
            f"{r.randint(10, 31)}-12-20{digits(r, 2)} 10:{r.randint(10, 59)}:00",
            f"v{r.randint(1, 9)}.{digits(r, 2)}.{digits(r, 3)}",
            digits(r, r.randint(7, 15)),
            f"16{digits(r, 8)}",
            str(uuid.UUID(int=r.getrandbits(128))),
            some(r, "0123456789abcdef", 40),
            f"{r.random():.10f}",
            f"-{r.random() * 90:.7f}, {r.random() * 90:.7f}",
            f"{r.randint(1, 999)},{digits(r, 3)},{digits(r, 3)}",
            f"{r.randint(200, 999)}-{r.randint(10, 99)}-{r.randint(1000, 9999)}",
            f"0000-000{r.randint(1, 3)}-{digits(r, 4)}-{digits(r, 4)}",
            " ".join(digits(r, 2) for _ in range(9)),
            " ".join(digits(r, 4) for _ in range(8)),
            "0 1 2 3 4 5 6 7 8 9 10 11 12",
            "01 02 03 04 05 06 07",
            f"pp. {r.randint(200, 400)}-{r.randint(400, 900)} 19{digits(r, 2)}",
            f"x + {r.randint(100, 999)} - {r.randint(1000, 9999)} = {digits(r, 4)}",
            f"{r.randint(1900, 2020)}-{r.randint(1900, 2020)}",
            f"192.168.{r.randint(1, 250)}.{r.randint(1, 250)}",
            f"DFARS {r.randint(202, 252)}.{r.randint(204, 299)}-70{digits(r, 2)}",
            f"+{r.randint(1, 9)}.{digits(r, 8)}",
            f"1e+{digits(r, 2)} 2.5e-{digits(r, 2)} 0x{digits(r, 8)}",
            f"issue #{digits(r, 5)}, PR {digits(r, 7)}",
            f"{digits(r, 3)}x{digits(r, 4)} pixels, {digits(r, 4)}-{digits(r, 4)}",
        ]
    )


def not_card(r: random.Random) -> str:
    valid = with_check_digit(r, "4", 16)
    broken = valid[:-1] + str((int(valid[-1]) + r.randint(1, 9)) % 10)
    return r.choice(
        [
            broken,
            " ".join(broken[at : at + 4] for at in range(0, 16, 4)),
            f"17{digits(r, 14)}",
            with_check_digit(r, "9", 16),
            with_check_digit(r, "1", 16),
            f"0.{valid}",
            f"{valid}.{digits(r, 3)}",
            f"{valid}{digits(r, 8)}",
            f"https://example.com/item/{valid}",
            f"?id={valid}",
            f"order id: {valid}",
            str(uuid.UUID(int=r.getrandbits(128))),
            some(r, "0123456789abcdef", 40),
            f"a{valid}",
            " ".join(digits(r, 3) for _ in range(6)),
            " ".join(digits(r, 5) for _ in range(9)),
            f"978-3-16-{digits(r, 6)}-0",
            f"{valid[:6]} {valid[6:9]} {valid[9:]}",
            f"2024-01-02 {digits(r, 2)}:{digits(r, 2)}:{digits(r, 2)}.{digits(r, 6)}",
            f"{digits(r, 13)}",
        ]
    ).replace("4" * 13, "1" * 13)


def not_iban(r: random.Random) -> str:
    valid = iban(r).replace(" ", "")
    at = r.randint(5, len(valid) - 1)
    other = valid[:at] + ("7" if valid[at] != "7" else "3") + valid[at + 1 :]
    return r.choice(
        [
            other,
            " ".join(other[at : at + 4] for at in range(0, len(other), 4)),
            valid[:-1],
            f"{valid}7",
            f"X{valid}",
            f"XY{valid[2:]}",
            some(r, LETTERS.upper() + "0123456789", 24),
            str(uuid.UUID(int=r.getrandbits(128))).upper(),
            some(r, "0123456789ABCDEF", 40),
            f"RFC{digits(r, 4)} SECTION {digits(r, 2)} MUST NOT BE USED AGAIN",
            f"US{digits(r, 20)}",
            f"PART NO AB{digits(r, 2)} {digits(r, 4)} {digits(r, 4)} {digits(r, 4)}",
        ]
    )


def not_secret(r: random.Random) -> str:
    return r.choice(
        [
            some(r, "0123456789abcdef", 32),
            f"sha256:{some(r, '0123456789abcdef', 64)}",
            f"commit {some(r, '0123456789abcdef', 40)}",
            str(uuid.UUID(int=r.getrandbits(128))),
            'api_key = "YOUR_API_KEY_GOES_HERE"',
            'api_key = os.environ["SERVICE_API_KEY_1"]',
            "token = tokenizer.convert_tokens_to_ids(tokens2)",
            "password = getpass.getpass('Password for user 1: ')",
            "secret_key: ${SECRET_KEY_FROM_VAULT_2}",
            "<div class='sk-fading-circle sk-circle12-container'>",
            f"access_token: <{word(r)}-{word(r)}-{word(r)}>",
            f"the token {word(r)}{word(r)}{word(r)} is {word(r)}",
            f"-----BEGIN CERTIFICATE-----\n{some(r, ALNUM, 64)}\n-----END CERTIFICATE-----",
            f"-----BEGIN PUBLIC KEY-----\n{some(r, ALNUM, 64)}\n-----END PUBLIC KEY-----",
            "a file begins with -----BEGIN RSA PRIVATE KEY----- and ends with the same",
            f'integrity="sha384-{some(r, ALNUM, 64)}"',
            f"data:image/png;base64,{some(r, ALNUM, 80)}",
            f"primary_key={digits(r, 20)}",
            f"password = '{word(r)}'",
            f"the secret {word(r)} of {word(r)}_{word(r)}_{word(r)}",
            "private_key_path = /etc/ssl/private/server-key-2048.pem",
            f"eyJ{some(r, ALNUM, 20)}.eyJ{some(r, ALNUM, 20)}.{some(r, ALNUM, 20)}",
            f"sort_key: {some(r, ALNUM, 24)}",
            f"auth_token: {'x' * 32}1",
            f"https://{word(r)}:****@{word(r)}.com/ or https://u:$PASSWORD@host",
            f"http://{word(r)}.com:8080/@{word(r)}",
            f"https://{word(r)}.com/a:b@{word(r)}",
        ]
    )


LABELLED: dict[str, tuple[Maker, Maker]] = {
    "email": (email, not_email),
    "ip": (public_ip, not_ip),
    "phone": (phone, not_phone),
    "card": (card, not_card),
    "iban": (iban, not_iban),
    "secret": (secret, not_secret),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_to_be_hidden_is_found_and_what_only_looks_like_it_stays(kind: str) -> None:
    r = random.Random(f"labelled {kind}")
    positive, negative = LABELLED[kind]
    things = [positive(r) for _ in range(EACH)]
    contexts = [r.choice(CONTEXTS) for _ in range(2 * EACH)]
    found = redact([c.format(t) for c, t in zip(contexts, things, strict=False)], kind)
    hits = [f"<{kind.upper()}_1>" in str(text) for text in found]
    missed = [thing for thing, hit in zip(things, hits, strict=True) if not hit]
    others = [c.format(negative(r)) for c in contexts[EACH:]]
    wrong = [
        (before, after)
        for before, after in zip(others, redact(list(others), kind), strict=True)
        if before != after
    ]
    assert sum(hits) / EACH >= 0.95, missed
    assert sum(hits) / (sum(hits) + len(wrong)) >= 0.98, wrong


# Pieces that make hostile neighbours of one another.
PIECES = st.sampled_from(
    [
        "jo@site.org",
        "JO@Site.org",
        "bo@mail.co.uk",
        "93.184.216.34",
        "8.8.8.8",
        "2a00:1450::2004",
        "(555) 234-5678",
        "+49 30 1234567",
        "4111 1111 1111 1111",
        "DE89370400440532013000",
        "AKIAIOSFODNN7EXAMPLE",
        'api_key="x8Kq2LmN9pRs4TuV7wYz"',
        "<EMAIL_7>",
        "<IP_1>",
        "ip ",
        "tel: ",
        "version ",
        " ",
        "\n",
        "a",
        "1",
        ".",
        ":",
        "-",
        "/",
        "@",
        "(",
        "\u00e9",
        "\U0001f469",
        "-----BEGIN PRIVATE KEY-----",
        "x8Kq2LmN9pRs4TuV7wYzx8Kq2LmN9pRs4TuV7wYzx8Kq2LmN9pRs4TuV7wYz",
        "-----END PRIVATE KEY-----",
        "://jo:x8Kq@",
        "::ffff:8.8.4.4",
        "\nComment: (",
    ]
)
TEXTS = st.lists(st.none() | st.lists(PIECES, max_size=14).map("".join), max_size=5)


@given(TEXTS, st.sampled_from(["numbered", "datatrove", "dolma"]))
def test_what_is_redacted_once_is_redacted_for_good(texts: list[str | None], style: str) -> None:
    once = redact(texts, placeholders=style)
    assert redact(once, placeholders=style) == once
    assert [text is None for text in once] == [text is None for text in texts]


@given(TEXTS)
def test_a_text_is_redacted_as_if_it_stood_alone(texts: list[str | None]) -> None:
    assert redact(texts) == [redact([text])[0] for text in texts]


@given(TEXTS)
def test_counts_are_the_placeholders_that_came(texts: list[str | None]) -> None:
    change = STEP.apply(pl.Series(texts, dtype=pl.String), STEP.parse(list(KINDS)))
    if change is None:
        return
    assert change.rows.tolist() == sorted(set(change.rows.tolist()))
    for at, row in enumerate(change.rows.tolist()):
        counts = {kind: int(counts[at]) for kind, counts in change.counts.items() if kind}
        after, before = str(change.texts[at]), str(texts[row])
        new = {kind: after.count(f"<{kind.upper()}_") for kind in counts}
        old = {kind: before.count(f"<{kind.upper()}_") for kind in counts}
        assert sum(counts.values()) > 0
        # An address may stand in a secret that was found in a later round; never the other way.
        assert all(new[kind] - old[kind] <= counts[kind] for kind in counts)


@given(TEXTS)
def test_raw_text_that_people_see_holds_nothing_that_was_redacted(
    texts: list[str | None],
) -> None:
    some = pl.Series([text or "" for text in texts], dtype=pl.String)
    settings = {"redact": list(KINDS), "whitespace": True}
    shown = masked(some, parse_settings(settings), pl.Series(["s"] * len(some), dtype=pl.String))
    cleaned = clean(pa.array(some.to_list(), pa.large_string()), settings).texts.to_pylist()
    for secret_ in ("jo@site", "93.184", "4111 1111 1111", "370400440532", "AKIAIOSF"):
        for text, out in zip(shown.to_list(), cleaned, strict=True):
            assert secret_ in out or secret_ not in text


def test_an_address_that_only_cleaning_puts_together_is_hidden_in_the_raw_text() -> None:
    settings = parse_settings({"redact": ["email"]})
    texts = pl.Series(["to jo\x00hn@site.org\r\n", "to jo@site.org\r\n", "x\r\n"])
    sources = pl.Series(["mail", "mail", "mail"])
    assert masked(texts, settings, sources).to_list() == [
        f"to {MASK}\n",
        f"to {MASK}\r\n",
        "x\r\n",
    ]
    free = parse_settings({"redact": {"kinds": ["email"], "exempt": ["mail"]}})
    assert masked(texts, free, sources).to_list() == texts.to_list()


NEXT_TO_EACH_OTHER = [
    "4111 1111 1111 1111",
    "4111111111111111",
    "2001:4860:4860::8888",
    "8.8.8.8",
    "93.184.216.34",
    "jo@site.org",
    "+49 30 1234567",
    "(555) 234-5678",
    "tel: 4155551234",
    "DE89370400440532013000",
    "AKIAIOSFODNN7EXAMPLE",
    "api_key=x8Kq2LmN9pRs4TuV7wYz",
    "https://jo:x8Kq2LmN9@site.org",
]
GLUED = st.lists(
    st.tuples(st.sampled_from(NEXT_TO_EACH_OTHER), st.sampled_from([",", "+", "/", " ", ""])),
    min_size=1,
    max_size=5,
).map(lambda pairs: "".join(thing + glue for thing, glue in pairs))


@given(GLUED, st.sampled_from(["numbered", "datatrove", "dolma"]))
def test_what_redaction_takes_from_a_text_is_hidden_where_the_text_is_shown(
    text: str, style: str
) -> None:
    setting = STEP.parse({"kinds": list(KINDS), "placeholders": style})
    (out,) = redact([text], placeholders=style)
    texts = pl.Series([text])
    meta = pl.Series([json.dumps({"x": text, "n": [text]}, separators=(",", ":"))])
    for name, values in (("url", texts), ("meta", meta), ("key", texts)):
        (shown,) = hide_field(name, values, setting, pl.Series(["s"])).to_list()
        for thing in NEXT_TO_EACH_OTHER:
            assert thing in str(out) or thing not in shown


@pytest.mark.parametrize(
    "text", ["4111 1111 1111 1111,2001:4860:4860::8888", "jo@site.org+49 30 1234567"]
)
@pytest.mark.parametrize("style", ["numbered", "datatrove", "dolma"])
def test_what_is_found_beside_a_placeholder_is_hidden_too(text: str, style: str) -> None:
    (shown,) = mask(pl.Series([text]), STEP.parse({"kinds": list(KINDS), "placeholders": style}))
    assert set(shown) <= {"*", ","}


def test_placeholders_that_a_text_came_with_are_shown() -> None:
    (shown,) = mask(pl.Series(["<EMAIL_3>, <IP_1>: jo@site.org"]), STEP.parse(list(KINDS)))
    assert shown == f"<EMAIL_3>, <IP_1>: {MASK}"


def test_the_same_thing_has_the_same_placeholder_however_it_is_written() -> None:
    (text,) = redact(
        [
            "jo@site.org bo@site.org JO@SITE.ORG; card 4111 1111 1111 1111 or 4111111111111111; "
            "93.184.216.34 and 2a00:1450:0:0:0:0:0:2004 and 2A00:1450::2004; "
            "+49 30 1234567, +49-30-1234567"
        ]
    )
    assert text == (
        "<EMAIL_1> <EMAIL_2> <EMAIL_1>; card <CARD_1> or <CARD_1>; "
        "<IP_1> and <IP_2> and <IP_2>; <PHONE_1>, <PHONE_1>"
    )


def test_placeholders_of_an_earlier_run_keep_their_numbers() -> None:
    assert redact(["<EMAIL_3> jo@site.org", "jo@site.org"]) == ["<EMAIL_3> <EMAIL_4>", "<EMAIL_1>"]


def test_other_projects_placeholders_can_be_had() -> None:
    text = "jo@site.org bo@site.org jo@site.org 93.184.216.34 (555) 234-5678"
    assert redact([text], placeholders="dolma") == [
        "|||EMAIL_ADDRESS||| |||EMAIL_ADDRESS||| |||EMAIL_ADDRESS||| |||IP_ADDRESS||| "
        "|||PHONE_NUMBER|||"
    ]
    (found,) = redact([text], "email", "ip", placeholders="datatrove")
    first, second = "email@example.com", "firstname.lastname@example.org"
    assert found == f"{first} {second} {first} 22.214.171.124 (555) 234-5678"


def test_keys_are_hidden_to_their_last_line_and_pages_about_keys_stay() -> None:
    body = "\n".join("MIIEpAIBAAKCAQEA0123456789abcdefghijklmnopqrstuvwxyz" for _ in range(5))
    begin, end = "-----BEGIN RSA PRIVATE KEY-----", "-----END RSA PRIVATE KEY-----"
    headers = "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,0123456789ABCDEF"
    texts: list[str | None] = [
        f"a\n{begin}\n{body}\n{end}\nb",
        f"a\n{begin}\n{headers}\n\n{body}\n{end}\nb",
        f"a\n{begin}\n{body}",
        f"write {begin} and {end} around it",
    ]
    assert redact(texts, "secret") == [
        "a\n<SECRET_1>\nb",
        "a\n<SECRET_1>\nb",
        "a\n<SECRET_1>",
        texts[3],
    ]


@pytest.mark.parametrize("quote", ["", "> ", ">> "])
@pytest.mark.parametrize(
    ("name", "headers"),
    [
        ("RSA PRIVATE KEY", []),
        ("PGP PRIVATE KEY BLOCK", ["Version: GnuPG v2.0.22 (GNU/Linux)", ""]),
        ("PGP PRIVATE KEY BLOCK", ["Version: 1", "Comment: Jo (at home) <jo@site.org>", ""]),
        ("PGP PRIVATE KEY BLOCK", [""]),
    ],
)
def test_keys_with_headers_and_keys_in_quotations_are_hidden(
    name: str, headers: list[str], quote: str
) -> None:
    body = ["lQOYBFkx9aabcdefghijABCDEFGHIJ0123456789+/lQOYBFkx9aabcdefghijAB"] * 4 + ["=abcd"]
    lines = [f"-----BEGIN {name}-----", *headers, *body, f"-----END {name}-----", "Bye"]
    for end in ("\n", "\r\n", "\\n"):
        (found,) = redact([end.join(quote + line for line in lines)])
        assert found == f"{quote}<SECRET_1>{end}{quote}Bye"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("https://x.org/u/john.smith@example-mail.com", "https://x.org/u/<EMAIL_1>"),
        ("postgres://user:Xk29sd8Fj20dKaa@host/db", "postgres://user:<SECRET_1>@host/db"),
        ("https://user:pass@site.org", "https://user:<SECRET_1>@site.org"),
        (f"https://ghp_{'a1B2' * 9}:$X@host", "https://<SECRET_1>:$X@host"),
        ("4111\xa01111\xa01111\xa01111", "<CARD_1>"),
        ("4111\u20131111\u20131111\u20131111", "<CARD_1>"),
        ("DE89\xa03704\xa00044\xa00532\xa00130\xa000", "<IBAN_1>"),
        ("DE89-3704-0044-0532-0130-00", "<IBAN_1>"),
        ("to ::ffff:8.8.4.4", "to <IP_1>"),
        ("x::ffff:93.184.216.34", "x::ffff:<IP_1>"),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.1"),
        ("2001:4860:4860::8.8.8.8", "<IP_1>"),
    ],
)
def test_other_ways_to_write_the_same_are_found(text: str, wanted: str) -> None:
    assert redact([text]) == [wanted]


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        (["emial"], "unknown kind 'emial'; there are: card, email.* Did you mean 'email'"),
        ({"kind": ["email"]}, "unknown key 'kind'.* Did you mean 'kinds'"),
        ({"placeholders": "numbered"}, "found None; write a list of email, ip"),
        ({"kinds": ["ip"], "placeholders": "dolmas"}, "found 'dolmas'; choices are"),
        ({"kinds": ["ip"], "exempt": 3}, "exempt is 3; write a list of sources"),
        (7, "found 7; write a list of email"),
        ([["email"]], "unknown kind"),
    ],
)
def test_a_setting_that_cannot_be_followed_is_refused(given_: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        STEP.parse(given_)


def test_a_setting_has_one_form_however_it_is_written() -> None:
    wanted = {"kinds": ["email", "ip"], "placeholders": "numbered", "exempt": []}
    assert STEP.parse(["ip", "email"]) == STEP.parse({"kinds": ["email", "ip", "ip"]}) == wanted
    assert STEP.parse(wanted) == wanted
    assert STEP.parse("ip")["kinds"] == ["ip"]
    assert STEP.parse([]) is STEP.parse(None) is STEP.parse(False) is None


BAIT = ("1", "@", "a@", "a", "+4", "1-", "1.", "tel ", "key=", "2001:", "A", "(", "DE89 ")
BAIT += ("://a:", "://a:b@c", "::ffff:1", "-----BEGIN PRIVATE KEY-----\nA: b\n")
BAIT += ("-----BEGIN PRIVATE KEY-----", "eyJaaaaaaaaaa.", "0123456789", "secret ")


@pytest.mark.parametrize("unit", BAIT)
def test_two_million_characters_of_nothing_but_bait_take_little_time(unit: str) -> None:
    text = unit * (2_000_000 // len(unit))
    began = time.process_time()
    assert redact([text]) == [text]
    assert time.process_time() - began < 8, "linear: some 0.3 s; quadratic: hours"


def test_real_code_loses_no_number(shared_data: Path) -> None:
    table = pq.read_table(shared_data / "text" / "code_python.parquet", columns=["text"])
    texts = table["text"].to_pylist()[::4]
    assert redact(texts, "phone", "card", "iban", "secret") == texts


def test_the_examples_that_people_try_first_are_hidden() -> None:
    texts: list[str | None] = [
        "Contact jane.doe@example.com today.",
        "Call 555-123-4567, (555) 123-4567 or +1 123-456-7890!",
        "My IP is 8.8.8.8, the server has 203.0.114.9 (not 192.168.0.1, not version 8.8.8.8)",
        "11.8.3.1. DNS server\nThe DNS is 8.8.4.4.",
        "4242 4242 4242 4242, 4111-1111-1111-1111, 378282246310005",
        "GB82 WEST 1234 5698 7654 32.",
        'aws_secret_access_key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"',
        "Authorization: Bearer x8Kq2LmN9pRs4TuV7wYz",
    ]
    assert redact(texts) == [
        "Contact <EMAIL_1> today.",
        "Call <PHONE_1>, <PHONE_1> or <PHONE_2>!",
        "My IP is <IP_1>, the server has <IP_2> (not 192.168.0.1, not version 8.8.8.8)",
        "11.8.3.1. DNS server\nThe DNS is <IP_1>.",
        "<CARD_1>, <CARD_2>, <CARD_3>",
        "<IBAN_1>.",
        'aws_secret_access_key = "<SECRET_1>"',
        "Authorization: Bearer <SECRET_1>",
    ]


def test_addresses_and_meta_data_lose_what_the_text_loses() -> None:
    setting = STEP.parse({"kinds": ["email", "phone", "secret"], "exempt": ["open"]})
    sources = pl.Series(["mail", "open", "mail", None])
    urls = pl.Series(["http://a.b/?m=jo@site.org#x", "http://a.b/jo@site.org", None, "http://a.b/"])
    hidden = [f"http://a.b/?m={MASK}#x", "http://a.b/jo@site.org", None, "http://a.b/"]
    assert hide_field("url", urls, setting, sources).to_list() == hidden
    deep: object = "jo@site.org"
    for _ in range(200):
        deep = [deep]
    metas = [
        {
            "b": [1, None, {"tel": "5552345678"}],
            "a": "x\njo@site.org\n\\jo@site.org",
            "n": 5552345678,
        },
        {"from": "jo@site.org"},
        deep,
        {"jo@site.org": "x8Kq2LmN9pRs4TuV7wYz", "password": "x8Kq2LmN9pRs4TuV7wYz"},
    ]
    texts = pl.Series([json.dumps(meta, separators=(",", ":")) for meta in metas])
    found = [json.loads(text) for text in hide_field("meta", texts, setting, sources).to_list()]
    assert found[0] == {
        "a": f"x\n{MASK}\n\\{MASK}",
        "b": [1, None, {"tel": MASK}],
        "n": 5552345678,
    }
    assert found[1] == metas[1]
    assert "site.org" not in json.dumps(found[2])
    assert found[3]["password"] == MASK
    broken = pl.Series(['{"a": jo@site.org', None])
    assert hide_field("meta", broken, setting, sources[:2]).to_list()[1] is None
    assert "jo@" not in str(hide_field("meta", broken, setting, sources[2:]).to_list()[0])
    assert hide_field("meta", texts, None, sources).to_list() == texts.to_list()
