"""What every package uses and what has nothing to do with learning: text, errors, secrets, streams, locks, waiting."""
