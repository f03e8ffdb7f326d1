"""``python -m ice``: the same as the command ``ice``."""

import sys

from ice.cli.main import main

sys.exit(main())
