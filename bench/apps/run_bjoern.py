"""bjoern has no command line: run_bjoern.py PORT MODULE:APP"""

import sys
from importlib import import_module

import bjoern

port, target = sys.argv[1:]
module, _, name = target.partition(":")
bjoern.run(getattr(import_module(module), name), "127.0.0.1", int(port))
