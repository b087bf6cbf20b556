"""One consumer reads one export, in its own environment; standard library only.

python reading.py PEER FOLDER FACTS
"""

import hashlib
import importlib.util
import json
import sys
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path


def digest_of(documents: Iterable[Sequence[int] | str]) -> dict[str, int | str]:
    """Return how many documents and tokens (or characters) there are, and a digest of them all."""
    state = hashlib.blake2b(digest_size=16)
    count = units = 0
    for one in documents:
        data = one.encode() if isinstance(one, str) else array("Q", map(int, one)).tobytes()
        state.update(len(data).to_bytes(8, "little") + data)
        count += 1
        units += len(one)
    return {"documents": count, "units": units, "digest": state.hexdigest()}


def main() -> None:
    """Print the digest of what the consumer's own code reads."""
    name, folder, facts = sys.argv[1:]
    path = Path(__file__).resolve().parent / "peers" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"peer_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    print(json.dumps(digest_of(module.read(Path(folder), json.loads(facts)))))


if __name__ == "__main__":
    main()
