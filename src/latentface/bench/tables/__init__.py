"""The tables: the poster's, times, ablations."""
