"""What the simulation of nights is made of: a pool of real embeddings, champions and nights, peers, what is kept."""
