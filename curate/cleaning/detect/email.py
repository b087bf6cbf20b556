"""E-mail addresses (RFC 5321 in the form people use), told from what else has an `@` in it.

A name has to end in a top-level domain: any of two letters that a country has, or a generic one;
between `<` and `>` or after `mailto:` any other will do. So `lodash@4.17.21`, `icon@2x.png` and
`x@self.weight` are none, and neither are the accounts of version control (`git@github.com:a/b`).
"""

import re
from collections.abc import Iterator

from curate.cleaning.detect.base import Detector, Span, after, before

__all__ = ["EMAIL"]

_LETTER = r"A-Za-z0-9\x{C0}-\x{D6}\x{D8}-\x{F6}\x{F8}-\x{24F}"
_MAX_LOCAL, _MAX_DOMAIN = 64, 253  # RFC 5321, 4.5.3.1
_ACCOUNTS = frozenset({"git", "hg", "svn", "bzr", "gitlab", "forgejo"})
_VERSION = re.compile(r"v?[0-9]+x?$", re.ASCII)

# ISO 3166-1 alpha-2 codes in use as domains, with eu and uk.
_COUNTRY_CODES = (
    "ac ad ae af ag ai al am ao aq ar as at au aw ax az ba bb bd be bf bg bh bi bj bm bn bo br bs "
    "bt bw by bz ca cc cd cf cg ch ci ck cl cm cn co cr cu cv cw cx cy cz de dj dk dm do dz ec ee "
    "eg er es et eu fi fj fk fm fo fr ga gd ge gf gg gh gi gl gm gn gp gq gr gs gt gu gw gy hk hm "
    "hn hr ht hu id ie il im in io iq ir is it je jm jo jp ke kg kh ki km kn kp kr kw ky kz la lb "
    "lc li lk lr ls lt lu lv ly ma mc md me mg mh mk ml mm mn mo mp mq mr ms mt mu mv mw mx my mz "
    "na nc ne nf ng ni nl no np nr nu nz om pa pe pf pg ph pk pl pm pn pr ps pt pw py qa re ro rs "
    "ru rw sa sb sc sd se sg sh si sk sl sm sn so sr ss st su sv sx sy sz tc td tf tg th tj tk tl "
    "tm tn to tr tt tv tw tz ua ug uk us uy uz va vc ve vg vi vn vu wf ws ye yt za zm zw"
)
_GENERIC_NAMES = (
    "aero academy agency app arpa art asia audio auto bank bar beer berlin best bike bio biz blog "
    "business cafe camp capital care careers cash cat center chat church city claims cleaning "
    "clinic cloud club coach codes coffee com community company computer consulting contact "
    "contractors cool coop credit design dental dev digital direct directory doctor earth edu "
    "education email energy engineer engineering enterprises estate events example exchange expert "
    "express family farm fashion finance financial fit fitness foundation fun fund gallery garden "
    "gift global gmbh gold gov graphics green group guide guru hamburg health hospital hosting "
    "house immo info ink institute insure int international invest jobs koeln kim land law "
    "lawyer legal life limited link live llc local loan london love ltd marketing market media "
    "melbourne mil mobi moe money moscow museum music name net network news ngo ninja nrw nyc one "
    "ong online onl org paris partners party pet photo photography photos pictures pink "
    "place plus post press pro productions pub quebec red "
    "restaurant review rocks ruhr sale school science scot services sexy shop site ski "
    "social software solar solutions space store studio style supply support surf swiss sydney "
    "systems tax taxi team tech technology tel tennis test tips tirol today tokyo tools top tours "
    "town toys trade training travel university vegas ventures vet video vip vision vlaanderen "
    "voting wales watch web website wedding wiki win wine work works world wtf xxx xyz yoga "
    "zone"
)
_COUNTRIES = frozenset(_COUNTRY_CODES.split())
_GENERIC = frozenset(_GENERIC_NAMES.split())


def _spans(text: str, start: int, end: int) -> Iterator[Span]:
    at = text.index("@", start, end)
    local, domain = text[start:at].lstrip("'.-%+"), text[at + 1 : end].rstrip("-")
    start, end = at - len(local), at + 1 + len(domain)
    if not 0 < len(local) <= _MAX_LOCAL or len(domain) > _MAX_DOMAIN or local.endswith("."):
        return
    labels = domain.lower().split(".")
    if not all(labels) or any(label[0] == "-" or label[-1] == "-" for label in labels):
        return
    left, right = before(text, start, 80), after(text, end, 1)
    if local.lower() in _ACCOUNTS or _is_login(left):
        return
    if left.endswith("/") and _VERSION.match(labels[0]):
        return  # unpkg.com/react@17.0.2.io, img/logo@2x.ai
    top = labels[-1]
    if top in _COUNTRIES:
        known = right != "("  # x@y.to(device)
    else:
        known = top in _GENERIC or (top.startswith("xn--") and len(top) > 4)
    written = (left.endswith("<") and right == ">") or left.lower().endswith("mailto:")
    if known or (written and top.isalpha() and len(top) > 1):
        yield start, end, f"{local}@{domain}".lower()


def _is_login(left: str) -> bool:
    """Say whether a URL's `scheme://` or `scheme://user:` stands before: a login and a host."""
    if left.endswith("//"):
        return not left.lower().endswith("mailto://")
    rest = left.rpartition("://")[2] if "://" in left else "/"
    return not any(character in "/ \t@<>\"'?#" for character in rest)


EMAIL = Detector(
    kind="email",
    needs="@",
    pattern=rf"[{_LETTER}_.%+'-]+@[{_LETTER}-]+(?:\.[{_LETTER}-]+)+",
    spans=_spans,
)
