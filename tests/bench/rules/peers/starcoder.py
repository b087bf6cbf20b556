"""The filters of The Stack and StarCoder that ask for the text alone, said as a slow twin."""

PACKAGE = "slow twin"
REQUIREMENTS = ()
PRESETS = ("code@starcoder",)


def judge(preset):
    """Return the function that judges one text."""

    def one(text):
        sizes = [len(line) for line in text.splitlines()]
        found = {
            "max_line_length": max(sizes, default=0) <= 1000,
            "mean_line_length": not sizes or sum(sizes) / len(sizes) <= 100,
            "alpha_fraction": bool(text) and sum(map(str.isalpha, text)) / len(text) >= 0.25,
            "xml_header": "<?xml version=" not in text[:100],
        }
        return {**found, "*": all(found.values())}

    return one
