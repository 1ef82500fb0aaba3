"""AWS's own answers → the tables of facts: prices from the Price List, types from EC2. Not the plan, which reads them.

Clients and the date are arguments: nothing here looks at a clock, and the tests bring their own AWS.
"""
