"""What the notebooks stand on: the toy, the labs' plans, sliders, the checks of the exercises, and grading by them.

It may use everything before it, and knows nothing of commands.
"""
