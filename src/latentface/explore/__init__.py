"""The methods, a file each, one signature; `registry` knows them by name.

`latentface.explore` is the function `latentface.explore.engine.explore`. Python gives that name to this package once it is
imported, so the package can be called too.
"""

import sys
from types import ModuleType
from typing import Any


class _CallablePackage(ModuleType):
    def __call__(self, *arguments: Any, **named: Any) -> Any:
        from latentface.explore.engine import explore  # loads PyTorch

        return explore(*arguments, **named)


sys.modules[__name__].__class__ = _CallablePackage
