"""`python -m licensing_client`."""

import sys

from licensing_client.cli import main

sys.exit(main())
