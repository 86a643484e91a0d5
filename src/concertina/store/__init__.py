"""How results and intermediate data lie on disk: sealed folders, shards, records with what made them, predictions."""
