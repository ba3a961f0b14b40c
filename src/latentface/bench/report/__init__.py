"""How tables are shown: Markdown, plots, sheets, one HTML page."""
