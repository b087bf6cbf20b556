"""Text revisions: one file per step; `curate.cleaning.clean` finds and applies them."""
