"""Other people's weights files, read as data: nothing in them is imported or run."""
