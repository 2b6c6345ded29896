"""From a name to a row: an experiment resolved once, trained, sampled, measured; runs side by side, launched, swept.

It knows the paper's files, `sources` and `measures`, and nothing of tables, figures or notebooks.
"""
