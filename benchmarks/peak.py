"""`python peak.py COMMAND...`: run it, then print the most memory it had, in bytes.

A process of its own, and a small one: a child counts the memory of the process that
started it as its own, until it runs its program.
"""

import resource
import subprocess
import sys


def main() -> None:
    subprocess.run(sys.argv[1:], check=True)
    unit = 1 if sys.platform == "darwin" else 1024
    print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit)


if __name__ == "__main__":
    main()
