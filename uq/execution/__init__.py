"""How members are executed."""

from .mapping import Mapping as Mapping
from .mapping import looped as looped
from .mapping import vmapped as vmapped
