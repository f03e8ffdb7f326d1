"""Everything about the package is in setup.cfg; here is only what it cannot say: extensions that may fail to build."""

import os
import sys

from setuptools import setup

extensions = []
try:
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "ice", "net"))
    from batch_build import ffibuilder as batch
    from fanout_build import ffibuilder as fanout

    for each in (fanout, batch):
        extension = each.distutils_extension()
        extension.optional = True  # without a compiler the pure Python twin does the same work
        extensions.append(extension)
except ImportError as missing:
    print(f"the compiled parts are left out: {missing}", file=sys.stderr)

setup(ext_modules=extensions)
