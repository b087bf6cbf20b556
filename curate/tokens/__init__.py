"""Text to tokens, token shards and the pack plan."""
