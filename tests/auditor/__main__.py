"""`python -m tests.auditor DIR...`: see the package."""

import sys

from tests.auditor import main

sys.exit(main())
