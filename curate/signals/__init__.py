"""Measurements: one file per family; `curate.signals.registry` finds and runs them."""
