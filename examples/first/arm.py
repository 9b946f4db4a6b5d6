import os

from pyrelukko import RelukkoClient

url = os.environ.get("RELUKKO_BASE_URL", "http://localhost:3000")
relukko = RelukkoClient(url, os.environ["RELUKKO_API_KEY"])
lock = relukko.acquire_relukko("robot-arm-1", "bench-7", 600)  # waits for 10 min at most
try:
    print("The arm is ours.")
finally:
    relukko.delete_relukko(lock["id"])
