"""The installed command: what is tested is what users have."""

import sys
from pathlib import Path

COMMAND = Path(sys.executable).with_name("unisono")
