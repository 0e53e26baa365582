"""The command line. Commands import what they need when they run, so that `--help` answers at once."""


def main() -> None:
    """Run the command line: the program `tidegauge`."""
    from service.cli.commands import app  # noqa: PLC0415  (importing this package must cost nothing)

    app(prog_name="tidegauge")
