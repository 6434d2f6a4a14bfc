# What all calls have in common.
import sys

import requests

session = requests.Session()
session.headers.update({"X-Client": "shop"})
response = session.get(sys.argv[1] + "/echo", auth=("ann", "secret"), cookies={"theme": "dark"})
sent = response.json()["headers"]
print(sent["x-client"], sent["cookie"], sent["authorization"])
session.close()
# prints: shop theme=dark Basic YW5uOnNlY3JldA==
