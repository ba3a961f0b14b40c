"""How tables are shown: plots, Markdown as HTML, one page."""
