"""What the container runs: options, server, workers, engines. Knows nothing of the core, of CDK or of a deployment."""
