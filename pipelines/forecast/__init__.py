"""The forecast of a run: its passes on two small samples, and what they say of the whole.

`sampling` draws the samples from all files of all sources, `trial` runs the recipe on one of them
in a process of its own and measures every stage, `model` extrapolates.
"""
