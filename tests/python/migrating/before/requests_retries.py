# Repeats after statuses that pass.
import sys

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

session = requests.Session()
session.mount("http://", HTTPAdapter(max_retries=Retry(total=3, backoff_factor=0.1, status_forcelist=[503])))
print(session.get(sys.argv[1] + "/flaky/2").json()["count"])
# prints: 3
