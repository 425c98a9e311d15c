"""What learners remember of ONE run: a ring of the newest transitions, or a rollout with its lambda-returns."""
