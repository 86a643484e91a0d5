"""Speech made on the spot: a grammar with exact translations, two synthesisers, and noise."""
