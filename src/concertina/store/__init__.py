"""How results and intermediate data lie on disk: sealed folders, shards, records, predictions."""
