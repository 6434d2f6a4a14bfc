# The first program of its quickstart.
import sys

import requests

response = requests.get(sys.argv[1] + "/items/7", params={"key": ["a", "b"]}, timeout=5)
print(response.status_code, response.ok, response.headers["Content-Type"])
print(response.json()["id"], len(response.content), response.text[:6])
# prints: 200 True application/json
# prints: 7 25 {"id":
