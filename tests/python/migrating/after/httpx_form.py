# A form, and a body of JSON.
import sys

import unisono

with unisono.Client(base_url=sys.argv[1], auth=("ann", "secret")) as client:
    print(client.post("/echo", data={"key": "value"}).json()["body"])
    print(client.post("/orders", json={"order": 7}).json())
# prints: key=value
# prints: {'order': 7}
