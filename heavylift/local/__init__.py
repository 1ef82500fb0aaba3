"""The embedded AWS on the user's machine, and the tools that drive it.

Not the deployment: that is heavylift.deploy, which works the same against a real account.
"""
