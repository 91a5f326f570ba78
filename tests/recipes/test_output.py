"""Every recipe runs to its end and prints what its page shows."""

import difflib


def test_output(recipe, addresses, runner, pytestconfig):
    """It runs to the end and prints what this page shows."""
    run = runner.run_recipe(recipe, addresses)
    assert run.code == 0, f"exit code {run.code}\n{run.stderr}"
    if pytestconfig.option.update_outputs:
        recipe.output.write_text(run.stdout, "utf-8")
    expected = recipe.output.read_text("utf-8") if recipe.output.is_file() else ""
    diff = difflib.unified_diff(
        expected.splitlines(),
        run.stdout.splitlines(),
        "expected",
        "printed",
        lineterm="",
    )
    assert run.stdout == expected, (
        "\n".join(diff) + f"\nIf that is right: pytest tests/recipes/test_output.py"
        f" --recipe {recipe.id} --update-outputs"
    )
