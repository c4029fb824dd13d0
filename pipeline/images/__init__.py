"""Images: decode, validate, measure, and the single preprocessing."""
