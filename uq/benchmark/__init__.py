"""What `uq bench` is made of: tasks, runs that can be interrupted, comparisons, reports."""

from .compare import paired as paired
from .compare import suite_tables as suite_tables
from .report import write_report as write_report
from .run import Suite as Suite
from .run import run_suite as run_suite
from .store import Store as Store
from .task import METHODS as METHODS
from .task import Task as Task
from .task import bundled_task as bundled_task
from .uci import UCISuite as UCISuite
from .uci import run_uci as run_uci
from .uci import uci_recipe as uci_recipe
from .uci import uci_tables as uci_tables
from .uci import write_uci as write_uci
