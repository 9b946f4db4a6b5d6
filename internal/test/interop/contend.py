"""Takes a lock some times with PyRelukko and says when it is inside.

usage: contend.py BASE_URL API_KEY LOCK_NAME REGISTER_URL TIMES websocket|poll
"""
import sys

import requests
from pyrelukko import RelukkoClient

base_url, api_key, name, register, times, way = sys.argv[1:]
if way == "websocket":
    relukko = RelukkoClient(base_url, api_key)
else:
    relukko = RelukkoClient(
        base_url, api_key, disable_websocket=True,
        acquire_wait_for_timeout=0.05, acquire_modulo=1)

for _ in range(int(times)):
    lock = relukko.acquire_relukko(name, "python", 120)
    assert lock is not None, "not acquired within 2 min"
    requests.post(f"{register}/enter").raise_for_status()
    relukko.keep_relukko_alive(lock["id"])
    requests.post(f"{register}/leave").raise_for_status()
    relukko.delete_relukko(lock["id"])
