"""What happens to documents: Arrow in, Arrow out. No Dask, no Prefect, no torch."""
