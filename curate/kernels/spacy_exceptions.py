r"""The chunks that spaCy's English tokenizer splits by rote: contractions, abbreviations, faces.

`exceptions()` gives the same chunks and pieces as the rules of `spacy.blank("en").tokenizer` (spaCy
3.8, `lang/en/tokenizer_exceptions.py` and `lang/tokenizer_exceptions.py`), built from the patterns
behind them; `make bench-rules` compares the two. A chunk with an apostrophe exists with U+2019 too.

>>> exceptions()["can't"], exceptions()["Mr."]
(('ca', "n't"), ('Mr.',))
"""

import functools
from collections.abc import Iterator, Mapping

__all__ = ["UNITS", "exceptions"]

# What follows a digit and is split off. The last but ten is two units that spaCy writes as one.
_UNITS = (
    "km km\xb2 km\xb3 m m\xb2 m\xb3 dm dm\xb2 dm\xb3 cm cm\xb2 cm\xb3 mm mm\xb2 mm\xb3 ha "
    "\xb5m nm yd in ft kg g mg \xb5g t lb oz m/s km/h kmh mph hPa Pa mbar mb MB kb KB gb GB "
    "tb TB T G M K % \u043a\u043c \u043a\u043c\xb2 \u043a\u043c\xb3 \u043c \u043c\xb2 \u043c"
    "\xb3 \u0434\u043c \u0434\u043c\xb2 \u0434\u043c\xb3 \u0441\u043c \u0441\u043c\xb2 \u0441"
    "\u043c\xb3 \u043c\u043c \u043c\u043c\xb2 \u043c\u043c\xb3 \u043d\u043c \u043a\u0433 \u0433"
    " \u043c\u0433 \u043c/\u0441 \u043a\u043c/\u0447 \u043a\u041f\u0430 \u041f\u0430 \u043c"
    "\u0431\u0430\u0440 \u041a\u0431 \u041a\u0411 \u043a\u0431 \u041c\u0431 \u041c\u0411 \u043c"
    "\u0431 \u0413\u0431 \u0413\u0411 \u0433\u0431 \u0422\u0431 \u0422\u0411 \u0442\u0431\u0643"
    "\u0645 \u0643\u0645\xb2 \u0643\u0645\xb3 \u0645 \u0645\xb2 \u0645\xb3 \u0633\u0645 \u0633"
    "\u0645\xb2 \u0633\u0645\xb3 \u0645\u0645 \u0645\u0645\xb2 \u0645\u0645\xb3 \u0643\u0645 "
    "\u063a\u0631\u0627\u0645 \u062c\u0631\u0627\u0645 \u062c\u0645 \u0643\u063a \u0645\u0644"
    "\u063a \u0643\u0648\u0628 \u0627\u0643\u0648\u0627\u0628"
)
UNITS = tuple(_UNITS.split())

# Contractions: "stem + endings", the endings set apart by `|` where several follow each other.
_WILL = ("'ll", "ll", "'ll|'ve", "ll|ve", "'d", "d", "'d|'ve", "d|ve")
_HAVE, _ARE, _IS = ("'ve", "ve"), ("'re", "re"), ("'s", "s")
_NOT, _NOT_HAVE = ("n't", "nt"), ("n't|'ve", "nt|ve")
_PLURAL_TOO = ("who", "what", "when", "where", "why", "how", "there")
_CONTRACTED: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("i", ("'m", "m", "'m|a", "m|a")),
    ("i you he she it we they", _WILL),
    ("i you we they", _HAVE),
    ("you we they", _ARE),
    ("he she it", _IS),
    (" ".join(_PLURAL_TOO), _IS + _WILL + _ARE + _HAVE),
    ("that this", _IS + _WILL),
    ("these those", _WILL + _ARE + _HAVE),
    (
        "ca could do does did had may might must need ought sha should wo would",
        _NOT + _NOT_HAVE,
    ),
    ("could might must should would", _HAVE),
    ("ai are is was were have has dare", _NOT),
    ("not", _HAVE),
    ("can", ("not",)),
    ("gon", ("na",)),
    ("got", ("ta",)),
    ("let", ("'s",)),
    ("c'm", ("on",)),
    ("how", ("'d|'y",)),
)
# Words of their own after all.
_WORDS = "ill its hell shell shed were well whore"

_CUT_SHORT = "doin goin nothin nuthin ol somethin lovin havin"
_WHOLE = (
    "em ll nuff 'em 'll 'nuff 'S 's \u2018S \u2018s and/or w/o 're 'Cause 'cause 'cos 'Cos 'coz "
    "'Coz 'cuz 'Cuz 'bout ma'am Ma'am o'clock O'clock 'd a.m. p.m. e.g. E.g. E.G. i.e. I.e. I.E. "
    "Ph.D. v.s. vs. co. N.C. N.D. N.H. N.J. N.M. N.Y. S.C. D.C. "
    # of titles, firms, states and months
    "Adm. Bros. Co. Corp. Dr. Gen. Gov. Inc. Jr. Ltd. Md. Messrs. Mo. Mont. Mr. Mrs. Ms. Mt. "
    "Prof. Rep. Rev. Sen. St. "
    "Ak. Ala. Ariz. Ark. Calif. Colo. Conn. Del. Fla. Ga. Ia. Id. Ill. Ind. Kan. Kans. Ky. La. "
    "Mass. Mich. Minn. Miss. Neb. Nebr. Nev. Okla. Ore. Pa. Tenn. Va. Wash. Wis. "
    "Apr. Aug. Dec. Feb. Jan. Jul. Jun. Mar. Nov. Oct. Sep. Sept."
)
# Of all languages.
_BASE = "\\t \\n ' \\\") <space> '' C++ \u2014 \xe4. \xf6. \xfc."
_FACES = (
    ":) :-) :)) :-)) :))) :-))) (: (-: =) (= :] :-] [: [-: [= =] :o) (o: :} :-} 8) 8-) (-8 ;) ;-) "
    "(; (-; :( :-( :(( :-(( :((( :-((( ): )-: =( >:( :') :'-) :'( :'-( :/ :-/ =/ =| :| :-| ]= =[ "
    ":1 :P :-P :p :-p :O :-O :o :-o :0 :-0 :() >:o :* :-* :3 :-3 =3 :> :-> :X :-X :x :-x :D :-D "
    ";D ;-D =D xD XD xDD XDD 8D 8-D ^_^ ^__^ ^___^ >.< >.> <.< ._. ;_; -_- -__- v.v V.V v_v V_V "
    "o_o o_O O_o O_O 0_o o_0 0_0 o.O O.o O.O o.o 0.0 o.0 0.o @_@ <3 <33 <333 </3 (^_^) (-_-) (._.) "
    "(>_<) (*_*) (\xac_\xac) \u0ca0_\u0ca0 \u0ca0\ufe35\u0ca0 (\u0ca0_\u0ca0) \xaf\\(\u30c4)/\xaf "
    "(\u256f\xb0\u25a1\xb0\uff09\u256f\ufe35\u253b\u2501\u253b ><(((*>"
)


@functools.cache
def exceptions() -> Mapping[str, tuple[str, ...]]:
    """Return chunk -> its pieces, which join to the chunk."""
    found: dict[str, tuple[str, ...]] = {space: (space,) for space in " \t\n\xa0"}
    for pieces in _plain():
        curly = tuple(piece.replace("'", "\u2019") for piece in pieces)
        found["".join(pieces)] = pieces
        found["".join(curly)] = curly
    for word in _WORDS.split():
        found.pop(word, None)
        found.pop(word.title(), None)
    return found


def _plain() -> Iterator[tuple[str, ...]]:
    for stems, endings in _CONTRACTED:
        for stem in stems.split():
            for ending in endings:
                yield (stem, *ending.split("|"))
                yield (stem[0].upper() + stem[1:], *ending.split("|"))
    yield from (("y'", "all"), ("y", "all"))
    for word in _CUT_SHORT.split():
        for form in (word, word.title()):
            yield from ((form,), (form + "'",))
    for hour in range(1, 13):
        for half in ("a.m.", "am", "p.m.", "pm"):
            yield (str(hour), half)
    for letter in "abcdefghijklmnopqrstuvwxyz":
        yield (f"{letter}.",)
    for scale in "cfkCFK":
        yield ("\xb0", scale, ".")
    for chunk in " ".join((_WHOLE, _BASE, _FACES)).split():
        yield (chunk,)
