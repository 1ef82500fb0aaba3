"""Matrices of whole numbers with scales: how they are made, held and multiplied with.

Not the loader, which makes them (loader.py), and not how a checkpoint stores them (families/packing.py).
"""
