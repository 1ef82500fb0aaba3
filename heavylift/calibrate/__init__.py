"""From measurements to coefficients: what an engine reaches on a machine, fitted with its uncertainty. Not the plan."""
