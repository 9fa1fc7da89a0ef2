"""Adapters of networks: read from files, applied to the rows of the jobs that name them."""
