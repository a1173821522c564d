"""How members are executed."""

from .compiling import compiled as compiled
from .compiling import keep_compiled as keep_compiled
from .compiling import run_once as run_once
from .compiling import same_for_any_size as same_for_any_size
from .lowering import has_convolution as has_convolution
from .lowering import lowered as lowered
from .mapping import Mapping as Mapping
from .mapping import check_mapping as check_mapping
from .mapping import chunked as chunked
from .mapping import looped as looped
from .mapping import unrolled as unrolled
from .mapping import vmapped as vmapped
from .strategy import Strategy as Strategy
from .strategy import candidates as candidates
from .strategy import mapping_of as mapping_of
from .strategy import rule as rule
