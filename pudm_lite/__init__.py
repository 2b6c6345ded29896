"""pudm_lite: positive-unlabeled diffusion models, small enough to read and to run.

Importing the package loads no heavy library; each module loads what it needs.
"""

__version__ = "0.1.0"
