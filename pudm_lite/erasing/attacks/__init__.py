"""Attacks on an erased concept: does the edited model still know what it no longer says?

Each is given the edited model whole (white box) and tries to make it draw the erased concept again. One file an idea;
`table` holds them by name with their budgets. They come in three kinds: what an attacker tells the model (inversion,
closed_form, token_search, interpolation), how the attacker samples (completion, noise, judge_guidance), and what the
attacker trains it on (relearning).
"""
