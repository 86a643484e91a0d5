"""What every training shares: the order of examples, steps, gradients, checkpoints."""
