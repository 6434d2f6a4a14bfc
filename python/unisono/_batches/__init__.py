"""What the batches of every kind of work have in common: feeding, taking outcomes, the report."""
