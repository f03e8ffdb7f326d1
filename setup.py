"""Everything about the package is in setup.cfg; here is only what it cannot say: an extension that may fail to build."""

import os
import sys

from setuptools import setup

extensions = []
try:
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "ice", "net"))
    from fanout_build import ffibuilder

    extension = ffibuilder.distutils_extension()
    extension.optional = True  # without a compiler the pure Python twin does the same work
    extensions.append(extension)
except ImportError as missing:
    print(f"the compiled fan-out is left out: {missing}", file=sys.stderr)

setup(ext_modules=extensions)
