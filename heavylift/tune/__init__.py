"""Searches by measurement: the highest rate that meets the targets, and the serving options that serve the most.

Not a model of the server: everything here is asked of a real one, and says how sure it is.
"""
