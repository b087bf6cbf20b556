"""Rules: KEEP predicates over signals, presets that name their reference, and the verdict query."""
