"""Plots of predictions. They draw on the matplotlib axes they are given, and return them."""

from .bands import bands as bands
from .reliability import reliability as reliability
