"""MADLAD-400's questionable sentences, said again as a slow twin; without their language."""

import re

PACKAGE = "slow twin"
REQUIREMENTS = ()
PRESETS = ("madlad400@paper",)

CURSED = re.compile(
    " \u2116|\ufffd{3}|\\|\\s*$| nr\\.$|aute irure dolor | sunt in culpa qui |orem ipsum "
    "| quis nostrud | adipisicing | dolore eu | cupidatat |autem vel eum|wisi enim ad| sex "
    "| porn |\u9ec4\u8272\u7535\u5f71|mp3|ownload|Vol\\.| Ep\\.|Episode| \u0433\\.\\s*$"
    "| \u043a\u0433\\.\\s*$| \u0448\u0442\\.|Develop|Facebook| crusher | xxx "
    "|(?: ...){9}|(?: ....){9}|(?: [^ ]){9}|, ..,,? ..,,? ..,,? ..,,?"
)


def judge(preset):
    """Return the function that judges one text."""

    def one(text):
        sentences = [part for part in re.split(r"[.!?]+\s+|\0", text) if part.strip()]
        bad = sum(map(is_questionable, sentences))
        found = {
            "sentences": len(sentences) >= 5,
            "questionable": bool(sentences) and bad / len(sentences) <= 0.2,
        }
        return {**found, "*": all(found.values())}

    return one


def is_questionable(sentence):
    """Return whether a sentence has one fault or more."""
    words = sentence.split()
    cased = len(words) >= 12 and sum(word[0].isupper() for word in words) > len(words) / 2
    signs = sum(c in "0123456789{}+/()>" for c in sentence)
    technical = signs > len(sentence) / 5
    return cased or technical or not 20 <= len(sentence) <= 500 or bool(CURSED.search(sentence))
