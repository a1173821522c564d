"""How members are executed."""

from .compiling import run_once as run_once
from .mapping import Mapping as Mapping
from .mapping import looped as looped
from .mapping import vmapped as vmapped
