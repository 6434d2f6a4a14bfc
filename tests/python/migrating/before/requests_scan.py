# A scan by a pool of threads.
import sys
from concurrent.futures import ThreadPoolExecutor

import requests

URLS = [f"{sys.argv[1]}/items/{number}" for number in range(20)]
session = requests.Session()


def check(url):
    return session.get(url, timeout=5).status_code


with ThreadPoolExecutor(max_workers=8) as pool:
    print(list(pool.map(check, URLS)) == [200] * 20)
# prints: True
