"""What the power benchmark is made of: images, their embeddings under changes, shifts, peers, trials, tables."""
