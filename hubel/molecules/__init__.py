"""Molecules as networks see them: atoms, their types, and densities on a grid.

Nothing here knows of training.
"""
