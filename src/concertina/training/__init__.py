"""What every training shares: the steps, their gradients, the order of examples, checkpoints."""
