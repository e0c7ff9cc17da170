"""`python -m xtrace`"""

import sys

from xtrace.cli import main

if __name__ == "__main__":
    sys.exit(main())
