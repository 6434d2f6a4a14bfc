# What fails is told apart.
import sys

import httpx

with httpx.Client(base_url=sys.argv[1]) as client:
    response = client.get("/status/404")
    try:
        response.raise_for_status()
    except httpx.HTTPStatusError as error:
        print("refused with", error.response.status_code)
# prints: refused with 404
