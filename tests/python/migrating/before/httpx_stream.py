# A body that is taken as it comes.
import sys

import httpx

with httpx.Client() as client:
    with client.stream("GET", sys.argv[1] + "/stream/3") as response:
        for line in response.iter_lines():
            print(line)
# prints: line 0
# prints: line 1
# prints: line 2
