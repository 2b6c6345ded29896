"""What is measured on images: judges and their training, rates with intervals, Fréchet distances, significance.

It knows images and the sets they come from, and nothing of the model that drew them.
"""
