"""Where images and weights come from: a user's folders, downloads, published weights, and the doctor that checks them.

It knows files, archives and addresses, and nothing of training, judging or experiments.
"""
