"""Drawings: SVG out of numbers and shapes."""
