"""The commands of `pudm`, one file each: HELP (a sentence), add (its options), run. Heavy libraries load in `run`.

A command turns options into calls of the rooms before it, and knows nothing of the other commands. What they share:
`options` of a run, `given`, which tells what was typed from a default, `surroundings`, where output goes.
"""
