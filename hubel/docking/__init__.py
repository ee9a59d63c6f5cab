"""Poses of a ligand in a receptor: where to look, preparation, generation, and how good they are.

What belongs to files of molecules and to grids lies below, in `hubel.molecules`.
"""
