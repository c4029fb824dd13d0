"""Messages to people: what is said, and the channels that carry it."""
