//! Templates of addresses, paths and texts, with the ranges and lists in them.

use unisono_runner::{Fields, Template};

/// Every column has the same value.
struct Same<'a>(&'a str);

impl Fields for Same<'_> {
    fn field(&self, _name: &str) -> Result<&str, String> {
        Ok(self.0)
    }
}

pub(crate) fn body(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    // What stands after the first line break is what columns are filled with.
    let (text, value) = text.split_once('\n').unwrap_or((text, "x"));
    for parse in [Template::address, Template::file_path, Template::text] {
        let template = match parse(text) {
            Ok(template) => template,
            Err(why) => {
                let shown = unisono_core::redacted(text);
                assert!(why.contains(&*shown), "`{text}`: an error names what is wrong: {why}");
                continue;
            }
        };
        let count = template.combinations();
        assert!(count > 0, "`{text}` stands for nothing");
        for combination in [0, count / 2, count - 1] {
            let _ = template.render(&Same(value), combination);
        }
    }
    if let Ok(template) = Template::file_path("a/{v}/b")
        && let Ok(path) = template.render(&Same(value), 0)
    {
        assert_eq!(std::path::Path::new(&path).components().count(), 3, "`{value}` leads elsewhere: {path}");
    }
}
