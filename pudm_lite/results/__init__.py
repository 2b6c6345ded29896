"""From rows to what a reader sees: the paper's numbers, tables beside them, figures, one style for all of them.

It knows rows and pixels, and nothing of how a run is made: whatever it needs to know of one stands in its row.
"""
