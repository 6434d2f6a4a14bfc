//! Templates of addresses, paths and texts, with the ranges and lists in them.

use percent_encoding::percent_decode_str;
use unisono_runner::{NoFields, RowFields, Template};

/// Every column has the same value.
struct Same<'a>(&'a str);

impl RowFields for Same<'_> {
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
    counts_as_it_should(text.as_bytes());
    stays_in_its_place(value);
    if let Ok(template) = Template::file_path("a/{v}/b")
        && let Ok(path) = template.render(&Same(value), 0)
    {
        assert_eq!(std::path::Path::new(&path).components().count(), 3, "`{value}` leads elsewhere: {path}");
    }
}

/// A range of numbers from the first bytes, against arithmetic that is too wide to overflow.
fn counts_as_it_should(bytes: &[u8]) {
    let Some(([shift, bytes @ ..], _)) = bytes.split_first_chunk::<25>() else { return };
    let [first, last, step] = [0, 8, 16].map(|at| {
        let number = bytes[at..].first_chunk().copied().map_or(0, i64::from_le_bytes);
        number >> (shift % 64)
    });
    let template = match Template::text(&format!("{{{first}..{last}..{step}}}")) {
        Ok(template) => template,
        Err(why) => {
            let too_many =
                i128::from(first).abs_diff(last.into()) / u128::from(step.unsigned_abs().max(1)) >= u64::MAX.into();
            assert!(step == 0 || step == i64::MIN || too_many, "{first}..{last}..{step}: {why}");
            return;
        }
    };
    let (first, last, step) = (i128::from(first), i128::from(last), i128::from(step.unsigned_abs()));
    let count = (last - first).abs() / step + 1;
    assert_eq!(i128::from(template.combinations()), count, "{first}..{last}..{step}");
    for number in [0, count / 2, count - 1] {
        let expected = first + (last - first).signum() * step * number;
        let made = template.render(&NoFields, u64::try_from(number).expect("it is below the count"));
        assert_eq!(made, Ok(expected.to_string()), "{first}..{last}..{step}");
    }
}

/// What fills a place in an address means itself there, and nothing else.
fn stays_in_its_place(value: &str) {
    let template = Template::address("http://h/{v}/x?q={v}&y").expect("it is in order");
    let Ok(address) = template.render(&Same(value), 0) else { return };
    let segment = address.strip_prefix("http://h/").and_then(|rest| rest.split_once("/x?q="));
    let (segment, query) = segment.unwrap_or_else(|| panic!("`{value}` breaks out of its segment: {address}"));
    let query = query.strip_suffix("&y").expect("it was written there");
    assert!(!["", ".", ".."].contains(&segment), "`{value}` leads elsewhere: {address}");
    for (part, ends) in [(segment, "/?#"), (query, "&#+")] {
        assert!(!part.contains(|c: char| ends.contains(c) || c.is_whitespace()), "`{value}` in {address}");
        assert_eq!(percent_decode_str(part).decode_utf8().as_deref(), Ok(value), "{address}");
    }
}
