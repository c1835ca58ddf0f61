"""onecard: one card, many accounts, a whole alliance of shops.

`Engine` runs the transaction engine in this process, `Client` talks to one that is served, `Rules` reads
and checks a rule file, `rows` builds batches, `Secrets` has the keys for PINs, aliases and codes. The
command line is `onecard --help`.
"""

import warnings

from onecard import codes, processor, rows  # the processor is looked at before the core is loaded
from onecard._core import DEBUG_BUILD, EngineClosed, EngineError, EnginePoisoned, __version__
from onecard.client import Client
from onecard.engine import Engine, verify
from onecard.rules import Rules, RulesError
from onecard.secrets import Secrets, SecretsError
from onecard.what_if import Period, WhatIf, load_period

__all__ = [
    "DEBUG_BUILD",
    "Client",
    "Engine",
    "EngineClosed",
    "EngineError",
    "EnginePoisoned",
    "Period",
    "Rules",
    "RulesError",
    "Secrets",
    "SecretsError",
    "WhatIf",
    "__version__",
    "codes",
    "load_period",
    "processor",
    "rows",
    "verify",
]

if DEBUG_BUILD:
    warnings.warn(
        "onecard was built without optimisation and is many times slower: run `maturin develop --release`",
        RuntimeWarning,
        stacklevel=2,
    )
