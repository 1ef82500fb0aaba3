"""SageMaker's contract over HTTP: /ping and /invocations. No torch, no processes: those are behind the channel."""
