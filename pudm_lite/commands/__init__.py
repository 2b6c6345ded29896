"""One file per command of `pudm`: HELP (a sentence), add (its options), run. Heavy libraries load in `run`."""
