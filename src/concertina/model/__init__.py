"""The speech language model: its encoder, its language model, the batches that it reads, and the device it runs on."""
