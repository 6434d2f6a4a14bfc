# A call with parameters, and its answer.
import sys

import httpx

with httpx.Client(base_url=sys.argv[1], timeout=10.0) as client:
    response = client.get("/items/7", params={"verbose": True}, headers={"Accept": "application/json"})
    response.raise_for_status()
    print(response.status_code, response.json()["name"])
# prints: 200 item
