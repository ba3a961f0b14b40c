"""The poster's tables and ours, as CSV, Markdown, pictures and one report page.

`table1`, `table2` and `timing` are the tables; `runner` does the faces that are not done yet and `records` keeps what is;
`tables`, `sheets`, `plots` and `report` show it; `evaluate` scores a folder of results. A further table is a file
beside them: make tasks and variants, hand them to `setup.make_runner`, aggregate its records.
"""
