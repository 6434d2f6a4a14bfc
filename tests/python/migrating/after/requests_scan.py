# A scan by a pool of threads.
import sys
from concurrent.futures import ThreadPoolExecutor

import unisono

URLS = [f"{sys.argv[1]}/items/{number}" for number in range(20)]
session = unisono.Client()


def check(url):
    return session.get(url, timeout=5).status_code


with ThreadPoolExecutor(max_workers=8) as pool:
    print(list(pool.map(check, URLS)) == [200] * 20)
# prints: True
