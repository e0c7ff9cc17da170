"""What setuptools asks the interpreter for, which has it of its own compiler: here of the one that wheel.sh chooses.

Python imports it instead of its own (_PYTHON_SYSCONFIGDATA_NAME, which is how Python itself is built for other machines),
so that no option of this machine's Python is in a wheel.
"""

import os

COMPILER, LINKER, HEADERS = (os.environ[name] for name in ("XT_COMPILER", "XT_LINKER", "XT_HEADERS"))

build_time_vars = {
    "CC": COMPILER,
    "CXX": COMPILER,
    "CFLAGS": "-DNDEBUG -fwrapv -fstack-protector-strong -fvisibility=hidden",
    "OPT": "",
    "CCSHARED": "-fPIC",
    "LDSHARED": f"{LINKER} -shared -s -Wl,-z,relro,-z,now",
    "LDCXXSHARED": "",
    "AR": "ar",
    "ARFLAGS": "rcs",
    "SHLIB_SUFFIX": ".so",
    "EXT_SUFFIX": ".cpython-310.so",  # setuptools makes .abi3.so of it
    "INCLUDEPY": HEADERS,
    "CONFINCLUDEPY": HEADERS,
}
