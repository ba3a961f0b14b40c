"""The tables: the poster's, times, ablations; their settings, notes and sheets."""
