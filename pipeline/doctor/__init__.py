"""Whether everything that Tidemark needs is there and well, and what to do where it is not."""
