"""The command line. Commands import what they need when they run, so that `--help` answers at once."""


def main() -> None:
    """Run the command line: the program `tidegauge`."""
    import sys  # noqa: PLC0415  (importing this package must cost nothing)

    from service.cli.signals import end_well_while_starting  # noqa: PLC0415
    from service.cli.warned import say_warnings_in_one_line  # noqa: PLC0415

    say_warnings_in_one_line()
    end_well_while_starting(sys.argv[1:])  # before anything slow: importing the rest takes most of a second

    from service.cli.commands import app  # noqa: PLC0415

    app(prog_name="tidegauge")
