"""How a base is made here: trained from scratch, or joined from a pretrained encoder and a pretrained LLM."""
