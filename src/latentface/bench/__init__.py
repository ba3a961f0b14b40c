"""The poster's tables and ours, as CSV, Markdown, pictures and one report page.

`core` does the faces that are not done yet and keeps their figures, `tables` and `prior` are what is measured, `report`
shows it. Each table is a function of its settings and of where it runs: `run_table1(Table1Settings(...), RunSettings(...))`.
A further table makes tasks and variants, hands them to a `Runner` and aggregates its records.
"""
