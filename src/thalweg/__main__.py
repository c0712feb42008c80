"""The command ``thalweg``, also ``python -m thalweg``."""

import sys

LAB = frozenset(
    {
        "PIL",
        "jinja2",
        "joblib",
        "matplotlib",
        "mnist1d",
        "numpy",
        "packaging",
        "plotly",
        "pydantic",
        "rich",
        "scipy",
        "sklearn",
        "typer",
    }
)
"""Import names of what the extra ``lab`` installs."""


def main() -> None:
    """Run the command line; one line and a non-zero exit when the lab's libraries are not installed."""
    try:
        from thalweg.lab.cli import app
        from thalweg.lab.errors import UserError
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in LAB:
            raise
        sys.exit(f'thalweg: {error.name} is not installed; the command needs: pip install "thalweg[lab]"')
    try:
        app(prog_name="thalweg")
    except UserError as error:
        print(f"thalweg: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
