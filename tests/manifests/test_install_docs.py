"""docs/install.md says what the settings, metrics and components are."""

from pathlib import Path

from tests.manifests.render import COMPONENTS
from webhook.settings import described

TEXT = (Path(__file__).parents[2] / "docs" / "install.md").read_text()


def test_every_setting_is_documented_as_the_code_has_it() -> None:
    rows = [
        f"| `{name}` | {f'`{default}`' if default else ''} | {text} |" for name, default, text in described()
    ]
    documented = TEXT.split("<!-- settings -->")[1].split("<!-- /settings -->")[0]
    assert documented.strip().splitlines()[2:] == rows


def test_every_component_is_documented() -> None:
    assert [name for name in COMPONENTS if f"`components/{name}`" not in TEXT] == []
