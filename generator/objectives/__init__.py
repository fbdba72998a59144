"""What is minimised, and the solver that inverts it: one file per objective.

Times run from 0 (the image) to 1 (pure noise), whatever a scheduler calls them.
"""
