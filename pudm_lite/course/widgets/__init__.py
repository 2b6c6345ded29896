"""Sliders that teach: each builder returns an ipywidgets object; the notebook draws one fixed picture beside it."""
