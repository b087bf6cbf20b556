"""The command that samples prints one JSON string, the same for the same seed."""

import json

from train import run
from train.generate import generate, main


def test_the_command_prints_what_the_function_returns(make_run, capsys):
    path = make_run(steps=1)
    run(path)
    capsys.readouterr()
    folder = str(path.parent)
    assert main(["--tokens=5", "--seed=3", "--", folder, "w9 w10"]) == 0
    assert json.loads(capsys.readouterr().out) == generate(folder, "w9 w10", 5, seed=3)
