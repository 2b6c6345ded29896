"""The checks of the exercises: `from pudm_lite.checks import check_01_1`, then `check_01_1(my_function)`.

The same code runs in Jupyter, on Colab, under pytest and in `pudm grade`. Values are drawn fresh at every call and
compared with closed forms and with the package's own tested functions.
"""
