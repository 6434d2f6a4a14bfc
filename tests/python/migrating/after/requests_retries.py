# Repeats after statuses that pass.
import sys

import unisono

session = unisono.Client(retries=3)
print(session.get(sys.argv[1] + "/flaky/2").json()["count"])
# prints: 3
