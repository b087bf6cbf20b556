"""The passes, one file each: a recipe's settings and earlier manifests in, a manifest out."""
