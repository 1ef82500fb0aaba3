"""Reports for people: a benchmark's table on the terminal, and its page.

Not the numbers: heavylift.benchmark computes them, and nothing here computes them again.
"""
