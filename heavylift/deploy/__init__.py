"""From a plan to a running endpoint, and back: the CDK CLI, CloudFormation and S3, in the order of the house.

Not the templates (stacks/, constructs/), and not the embedded AWS (heavylift.local).
"""
