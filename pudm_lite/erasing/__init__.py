"""Concept erasing: a conditional model that knows a concept already is edited until it does not draw it any more.

Equation and algorithm numbers are those of Bui et al., "Erasing Undesirable Concepts in Diffusion Models with
Adversarial Preservation" (NeurIPS 2024), as the slides number them.
"""
