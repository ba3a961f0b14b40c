"""The page for a host that runs `app.py` and forwards port 7860, such as a Hugging Face Space.

Beside it belongs a requirements.txt with one line: latentface[web] @ git+ADDRESS-OF-THE-REPOSITORY
"""

import os

from latentface.cli.web import web

web(host="0.0.0.0", port=int(os.environ.get("PORT", "7860")), queue=20, minutes=10)
