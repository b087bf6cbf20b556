"""Backbones that objectives share."""
