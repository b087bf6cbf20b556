"""The short phrases by which the usual licences are told apart: facts, in their order.

Each text is a sequence of phrases (lower case, words only) within a number of characters; `never`
holds what would make it a sister licence. The phrases are checked against ScanCode's labelled
texts in the tests.
"""

from dataclasses import dataclass

__all__ = ["LICENCES", "Licence"]


@dataclass(frozen=True, slots=True)
class Licence:
    """The phrases of a licence in their order, and how many characters they may span."""

    spdx: str
    how: str
    within: int
    phrases: tuple[str, ...]
    never: tuple[str, ...] = ()  # phrases of a sister licence, close around it


_BSD = (
    "redistribution and use in source and binary forms with or without modification are permitted "
    "provided that the following conditions are met",
    "redistributions of source code must retain the above copyright notice this list of "
    "conditions and the following disclaimer",
    "redistributions in binary form must reproduce the above copyright notice this list of "
    "conditions and the following disclaimer in the documentation",
)
_BSD_END = ("as is and any express or implied warranties", "advised of the possibility of such")
_ENDORSE = "be used to endorse or promote products derived from this software without"
_ADVERTISE = "all advertising materials mentioning features or use of this software"
_MORE_BSD = (
    "nuclear",
    "patent",
    "export",
    "acknowledg",
    "non infringement",
    "position and unchanged",
    "unmodified",
    "must not be misrepresented",
    "clearly indicated",
    "derived works must",
)
_EXCEPTION = (
    "special exception",
    "following exception",
    "as an additional permission",
    "exception to",
    "exempt",
    "linking exception",
    "with the exception",
)
_NEVER_NOTICE = (
    "additional license terms",
    "business source",
    "change license",
    "dual licensed",
    "functional source",
    "future license",
)
_GNU = "gnu general public license"
_LESSER = "gnu lesser general public license"
_LATER = "or at your option any later version"


def _gnu_notices() -> list[Licence]:
    """Return the notices that name a GNU licence, its version, and whether a later one will do."""
    notices = []
    kinds = {
        "GPL": (_GNU, "23"),
        "AGPL": ("gnu affero general public license", "3"),
        "LGPL": (_LESSER, ("2 1", "3")),
    }
    for kind, (name, versions) in kinds.items():
        named = f"under the terms of the {name} as published by the free software foundation"
        for version in versions:
            spdx = f"{kind}-{version.replace(' ', '.') if ' ' in version else version + '.0'}"
            for shown in dict.fromkeys((version, version if " " in version else f"{version} 0")):
                for of in (" of the license", ""):
                    asks = f"{named} either version {shown}{of} {_LATER}"
                    later = (asks,)
                    notices.append(_notice(f"{spdx}-or-later", later, _EXCEPTION))
                for of in ("of", "only"):
                    only = (f"{named} version {shown} {of}",)
                    notices.append(_notice(f"{spdx}-only", only, (*_EXCEPTION, "later version")))
    return notices


def _notice(spdx: str, phrases: tuple[str, ...], never: tuple[str, ...]) -> Licence:
    return Licence(spdx, "notice", 250 + len(phrases[0]), phrases, (*never, *_NEVER_NOTICE))


LICENCES = (
    Licence(
        "MIT",
        "text",
        1_080,
        (
            "permission is hereby granted free of charge to any person obtaining a copy",
            "without restriction including without limitation the rights to use copy modify merge "
            "publish distribute sublicense",
            "subject to the following conditions",
            "the above copyright notice",
            "this permission notice",
            "be included in all copies or substantial portions",
            "provided as is without warranty of any kind",
            "in no event shall",
            "other dealings in the software",
        ),
        (
            "except as contained in this notice",
            "in advertising or otherwise",
            "the software shall be used for good",
            "commons clause",
            "endorse or promote",
            "indication whether",
        ),
    ),
    Licence(
        "MIT-0",
        "text",
        950,
        (
            "permission is hereby granted free of charge to any person obtaining a copy",
            "sell copies of the software and to permit persons to whom the software is furnished "
            "to do so the software is provided as is",
            "other dealings in the software",
        ),
    ),
    Licence("BSD-2-Clause", "text", 1_450, (*_BSD, *_BSD_END), (_ENDORSE, _ADVERTISE, *_MORE_BSD)),
    Licence("BSD-3-Clause", "text", 1_650, (*_BSD, _ENDORSE, *_BSD_END), (_ADVERTISE, *_MORE_BSD)),
    Licence(
        "BSD-4-Clause",
        "text",
        1_900,
        (*_BSD, _ADVERTISE, _ENDORSE, *_BSD_END),
        ("university of california", "the regents"),
    ),
    Licence(
        "BSD-4-Clause-UC",
        "text",
        1_900,
        (*_BSD, _ADVERTISE, "university of california", _ENDORSE, *_BSD_END),
    ),
    Licence(
        "ISC",
        "text",
        760,
        (
            "permission to use copy modify and or distribute this software for any purpose with or "
            "without fee is hereby granted provided that the above copyright notice and this "
            "permission notice appear in all copies",
            "disclaims all warranties",
            "use or performance of this software",
        ),
    ),
    Licence(
        "ISC",
        "text",
        760,
        (
            "permission to use copy modify and distribute this software for any purpose with or "
            "without fee is hereby granted provided that the above copyright notice and this "
            "permission notice appear in all copies",
            "disclaims all warranties",
            "use or performance of this software",
        ),
    ),
    Licence(
        "0BSD",
        "text",
        700,
        (
            "permission to use copy modify and or distribute this software for any purpose with or "
            "without fee is hereby granted the software is provided as is",
            "use or performance of this software",
        ),
    ),
    Licence(
        "Zlib",
        "text",
        980,
        (
            "this software is provided as is without any express or implied warranty",
            "permission is granted to anyone to use this software for any purpose including "
            "commercial applications and to alter it and redistribute it freely subject to the "
            "following restrictions",
            "must not be misrepresented",
            "is appreciated but is not required",
            "altered source versions must be plainly marked as such",
            "this notice may not be removed or altered from any source distribution",
        ),
    ),
    Licence(
        "Unlicense",
        "text",
        1_300,
        (
            "this is free and unencumbered software released into the public domain",
            "anyone is free to copy modify publish use compile sell or distribute this software",
            "successors",
        ),
    ),
    Licence(
        "BSL-1.0",
        "text",
        1_500,
        (
            "boost software license version 1 0",
            "permission is hereby granted free of charge to any person or organization",
            "machine executable object code generated by a source language processor",
        ),
    ),
    Licence(
        "WTFPL",
        "text",
        900,
        ("do what the fuck you want to public license", "you just do what the fuck you want to"),
    ),
    Licence(
        "CC0-1.0",
        "text",
        7_500,
        ("cc0 1 0 universal", "statement of purpose", "affirmer understands and acknowledges"),
    ),
    Licence(
        "Apache-2.0",
        "text",
        11_000,
        (
            "apache license",
            "terms and conditions for use reproduction and distribution 1 definitions",
            "2 grant of copyright license",
            "3 grant of patent license",
            "4 redistribution",
            "9 accepting warranty or additional liability",
        ),
        (
            "llvm exceptions",
            "runtime library exception",
            "modified apache",
            "is identical to",
            "license based on",
        ),
    ),
    _notice(
        "Apache-2.0",
        (
            "licensed under the apache license version 2 0",
            "you may not use this file except in compliance with the license",
        ),
        ("llvm exceptions",),
    ),
    Licence(
        "GPL-2.0-only",
        "text",
        15_500,
        (
            f"{_GNU} version 2 june 1991",
            "everyone is permitted to copy and distribute verbatim copies",
            "0 this license applies to any program",
            "12 in no event unless required by applicable law",
            "end of terms and conditions",
        ),
    ),
    Licence(
        "GPL-3.0-only",
        "text",
        34_500,
        (
            f"{_GNU} version 3 29 june 2007",
            "everyone is permitted to copy and distribute verbatim copies",
            "13 use with the gnu affero general public license",
            "17 interpretation of sections 15 and 16",
        ),
    ),
    Licence(
        "AGPL-3.0-only",
        "text",
        34_500,
        (
            "gnu affero general public license version 3 19 november 2007",
            "13 remote network interaction",
            "17 interpretation of sections 15 and 16",
        ),
    ),
    Licence(
        "LGPL-2.1-only",
        "text",
        26_000,
        (
            f"{_LESSER} version 2 1 february 1999",
            "everyone is permitted to copy and distribute verbatim copies",
            "0 this license agreement applies to any software library",
            "16 in no event unless required by applicable law",
        ),
    ),
    Licence(
        "LGPL-3.0-only",
        "text",
        7_900,
        (
            f"{_LESSER} version 3 29 june 2007",
            f"this version of the {_LESSER} incorporates the terms and conditions of version 3",
            "6 revised versions of the gnu lesser general public license",
        ),
    ),
    Licence(
        "MPL-2.0",
        "text",
        16_500,
        (
            "mozilla public license version 2 0",
            "1 definitions",
            "2 license grants and conditions",
            "10 versions of the license",
        ),
    ),
    _notice(
        "MPL-2.0",
        (
            "this source code form is subject to the terms of the mozilla public license v 2 0",
            "you can obtain one at",
        ),
        ("incompatible with secondary licenses",),
    ),
    Licence(
        "EPL-2.0",
        "text",
        13_800,
        ("eclipse public license v 2 0", "1 definitions", "2 grant of rights", "7 general"),
    ),
    Licence(
        "Python-2.0",
        "text",
        12_500,
        (
            "psf license agreement for python",
            "psf is making python",
            "beopen python open source license agreement version 1",
            "cnri license agreement for python 1 6 1",
            "cwi license agreement for python",
        ),
    ),
    Licence(
        "PSF-2.0",
        "text",
        3_200,
        (
            "python software foundation license version 2",
            "between the python software foundation psf and the individual or organization",
            "psf hereby grants licensee a nonexclusive royalty free world wide license",
            "agrees to be bound by the terms and conditions of this license agreement",
        ),
    ),
    *_gnu_notices(),
)
