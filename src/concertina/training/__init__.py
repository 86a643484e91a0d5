"""The parts that every training shares: steps, gradients, the order of examples, checkpoints."""
