"""How setuptools has to compile and link: by wheel.sh's compiler, with none of the options of this machine's Python.

Python imports it in place of its own (_PYTHON_SYSCONFIGDATA_NAME, as when Python itself is built for other machines).
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
