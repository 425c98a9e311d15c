"""The learners: each is one deep Q-learning algorithm for ONE run, behind the interface of learner.py."""
