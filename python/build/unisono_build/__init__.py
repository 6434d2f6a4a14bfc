"""The build backend: maturin, with all else that a wheel of unisono holds made beforehand.

That is the native command, its man pages and completions, the licences of the crates that are linked, and a bill of
materials over both binaries. One cargo call builds command and module, so that they share every compiled dependency.

`UNISONO_PROFILE` names the cargo profile: `release` by default, `demo` for a build that is quick from nothing.
"""

from __future__ import annotations

from typing import Any

from . import needs

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

# Each hook looks for the tools first, since maturin would say less, and later, of what is missing.


def get_requires_for_build_wheel(settings: Any = None) -> list[str]:
    needs.check()
    return []


get_requires_for_build_editable = get_requires_for_build_wheel


def get_requires_for_build_sdist(settings: Any = None) -> list[str]:
    needs.check(compiler=False)
    return []


def prepare_metadata_for_build_wheel(directory: str, settings: Any = None) -> str:
    needs.check()
    import maturin

    from . import contents

    contents.prepare()
    return maturin.prepare_metadata_for_build_wheel(directory, settings)


prepare_metadata_for_build_editable = prepare_metadata_for_build_wheel


def build_sdist(directory: str, settings: Any = None) -> str:
    needs.check(compiler=False)
    import maturin

    from . import contents

    contents.prepare()
    return maturin.build_sdist(directory, settings)


def build_wheel(directory: str, settings: Any = None, metadata: str | None = None) -> str:
    needs.check()
    import maturin

    return maturin.build_wheel(directory, _made(settings), metadata)


def build_editable(directory: str, settings: Any = None, metadata: str | None = None) -> str:
    needs.check()
    import maturin

    return maturin.build_editable(directory, _made(settings), metadata)


def _made(settings: Any) -> dict[str, Any]:
    """Builds what maturin packs. Returns the settings that make maturin build the module in the same way."""
    from . import cargo, contents

    contents.prepare()
    contents.write(cargo.build("unisono-cli", "unisono-python"))
    return {**(settings or {}), "build-args": f"--profile {cargo.PROFILE} --locked"}
