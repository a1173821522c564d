"""Conformal prediction: intervals and sets with a guarantee for finite samples, from held-out outcomes."""
