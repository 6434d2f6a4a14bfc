"""The check for circles of files (tests/circles.py): what it finds, and what is none."""

import pytest

from circles import Crate, cycles, python_cycles


@pytest.fixture
def crate(tmp_path):
    def write(files):
        for name, text in files.items():
            path = tmp_path / "src" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return Crate(tmp_path / "src/lib.rs")

    return write


MODULES = "mod a;\nmod b;\npub use a::One;\n"


@pytest.mark.parametrize(
    "use",
    [
        "use crate::a::One;",
        "use super::{a::{One, self}};",
        "use crate::One;",
        "use crate::*;",
        "use crate::a;\nfn two() { a::One::new(); }",
        "fn two() { crate::a::One::new(); }",
        "pub use crate::a::One;\npub fn two(_: One) {}",
    ],
)
def test_two_files_that_need_each_other_are_a_circle_however_they_say_it(crate, use):
    found = crate({"lib.rs": MODULES, "a.rs": "use crate::b::Two;\npub struct One;", "b.rs": f"{use}\npub struct Two;"})
    assert cycles(found.needs) == [[("a",), ("b",)]]


@pytest.mark.parametrize(
    "harmless",
    [
        "// use crate::a::One;",
        "pub use crate::a::One;",
        "#[cfg(test)]\nmod tests {\n    use crate::a::One;\n}",
        'const TEXT: &str = "crate::a::One";',
        "use other::a::One;",
    ],
)
def test_comments_texts_tests_and_what_is_only_handed_on_close_no_circle(crate, harmless):
    text = f"pub struct Two;\n{harmless}\n"
    found = crate({"lib.rs": MODULES, "a.rs": "use crate::b::Two;\npub struct One;", "b.rs": text})
    assert found.needs["a",] == {("b",)}
    assert cycles(found.needs) == []


def test_folders_that_need_each_other_are_a_circle_though_no_files_are(crate):
    files = {
        "lib.rs": "mod a;\nmod b;",
        "a/mod.rs": "pub mod one;\npub mod two;",
        "a/one.rs": "use crate::b::one::One;",
        "a/two.rs": "pub struct Two;",
        "b/mod.rs": "pub mod one;\npub mod two;",
        "b/one.rs": "pub struct One;",
        "b/two.rs": "use crate::a::two::Two;",
    }
    found = crate(files)
    assert cycles(found.needs) == []
    assert list(found.among_children()) == [[("a",), ("b",)]]


def test_a_circle_of_python_is_found_inside_of_functions_and_not_where_types_alone_are_meant(tmp_path):
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("from .a import one\n")
    (package / "a.py").write_text("from package.b import two\n")
    (package / "b.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from package.a import one\n"
    )
    assert python_cycles(package) == []
    (package / "b.py").write_text("def two():\n    from .a import one\n")
    assert python_cycles(package) == [[("package", "a"), ("package", "b")]]
