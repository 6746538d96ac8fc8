"""``pushforward demo``."""

from __future__ import annotations

import argparse

from pushforward.cli.command import Command, check_output


def _add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--output", metavar="PNG", default="pushforward-demo.png", help="file to draw to (default: %(default)s)"
    )


def _run(args: argparse.Namespace) -> int:
    from pushforward import demo

    check_output(args.output)
    demo.run(args.output)
    return 0


COMMAND = Command(
    "demo",
    "fit a flow to a household's electricity, and compare it with other densities",
    """\
The table has 5,000 rows of 6 columns (UCI; Hebrail, Berard 2012; CC BY 4.0) and
comes with the package. scikit-learn adds a Gaussian mixture, SciPy a kernel
density estimate, and Matplotlib a picture of data beside samples.""",
    "  pushforward demo --output demo.png",
    _add_arguments,
    _run,
)
