"""``python -m docsite OUT`` writes the sources of the site; ``--finish SITE`` typesets and checks the built one."""

from __future__ import annotations

import sys
from pathlib import Path


def main(arguments: list[str]) -> int:
    """Returns the exit code."""
    if len(arguments) == 2 and arguments[0] == "--finish":
        from docsite.finish import faults, typeset

        site = Path(arguments[1])
        formulas = typeset(site)
        wrong = list(faults(site))
        pages = sum(1 for _ in site.rglob("*.html"))
        print("\n".join([*wrong, f"{pages} pages, {formulas} formulas, {len(wrong)} faults"]))
        return 1 if wrong else 0
    if len(arguments) == 1:
        from docsite.sources import BrokenLinkError, Sources

        sources = Sources()
        try:
            sources.collect()
        except BrokenLinkError as error:
            print(error, file=sys.stderr)
            return 1
        sources.write(Path(arguments[0]))
        return 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
