//! `Link` headers (RFC 8288), read from bytes as they came.
//!
//! The parser is that of appendix B.2 and B.3, with two differences. A value is bytes, since a title may hold any, and
//! a target that is not ASCII is still one. And what cannot be read is an error where appendix B stops quietly: a list
//! of pages that ends because of a fault looks like one that ends because there is no more. Links before the fault
//! count.
//!
//! Of several `rel` in one link the first counts, and it may name several relations. A link with an `anchor` says
//! something about another resource, unless that is the very page. Everything else (`title*`, `hreflang`, `type`) is
//! passed over.

use http::{HeaderMap, header};
use unisono_http::Url;

/// One link of a header.
#[derive(Debug, Default, PartialEq, Eq)]
struct Link {
    target: Vec<u8>,
    /// Of the first of each name.
    relations: Option<Vec<u8>>,
    anchor: Option<Vec<u8>>,
}

/// The address of the page after this one, by the first link whose relation is `next`; `None` when no link has it.
///
/// # Errors
/// When a header cannot be read, or the target is not an address. No target is in the message of the former.
pub(super) fn next(headers: &HeaderMap, page: &Url) -> Result<Option<Url>, String> {
    for value in headers.get_all(header::LINK) {
        let mut parser = Parser { rest: value.as_bytes(), length: value.len() };
        while let Some(link) = parser.link()? {
            if link.is_next() && link.is_about(page) {
                return page
                    .join_bytes(&link.target)
                    .map(Some)
                    .map_err(|error| format!("the next page: {}", error.chain()));
            }
        }
    }
    Ok(None)
}

/// For tests and fuzzing: the targets of the links with the relation `next` in one header, and what was wrong with the
/// rest.
#[doc(hidden)]
pub fn next_targets(header: &[u8]) -> (Vec<Vec<u8>>, Option<String>) {
    let mut parser = Parser { rest: header, length: header.len() };
    let mut targets = Vec::new();
    loop {
        match parser.link() {
            Ok(Some(link)) => targets.extend(link.is_next().then_some(link.target)),
            Ok(None) => return (targets, None),
            Err(why) => return (targets, Some(why)),
        }
    }
}

impl Link {
    fn is_next(&self) -> bool {
        let relations = self.relations.as_deref().unwrap_or_default();
        relations.split(u8::is_ascii_whitespace).any(|relation| relation.eq_ignore_ascii_case(b"next"))
    }

    fn is_about(&self, page: &Url) -> bool {
        self.anchor.as_deref().is_none_or(|anchor| {
            // A fragment is a part of the page, and not the page.
            let part = anchor.iter().position(|byte| *byte == b'#').is_some_and(|at| at + 1 < anchor.len());
            !part && page.join_bytes(anchor).is_ok_and(|about| about == *page)
        })
    }
}

struct Parser<'a> {
    rest: &'a [u8],
    length: usize,
}

impl Parser<'_> {
    /// The next link; `None` at the end.
    fn link(&mut self) -> Result<Option<Link>, String> {
        // A list may have empty members (RFC 9110, section 5.6.1).
        while self.skip_blanks() == Some(b',') {
            self.advance();
        }
        match self.peek() {
            None => return Ok(None),
            Some(b'<') => self.advance(),
            Some(_) => return Err(self.broken("a link begins with `<`")),
        }
        let end = self.rest.iter().position(|byte| *byte == b'>');
        let end = end.ok_or_else(|| self.broken("a link's target has no `>`"))?;
        let mut link = Link { target: self.rest[..end].to_vec(), ..Link::default() };
        self.rest = &self.rest[end + 1..];
        while self.skip_blanks() == Some(b';') {
            self.advance();
            self.parameter(&mut link)?;
        }
        match self.peek() {
            None | Some(b',') => Ok(Some(link)),
            Some(_) => Err(self.broken("a link's parameters are parted by `;`, and links by `,`")),
        }
    }

    fn parameter(&mut self, link: &mut Link) -> Result<(), String> {
        if matches!(self.skip_blanks(), None | Some(b';' | b',')) {
            return Ok(());
        }
        let end = self.rest.iter().position(|byte| is_blank(*byte) || b"=;,".contains(byte));
        let name = self.rest[..end.unwrap_or(self.rest.len())].to_ascii_lowercase();
        self.rest = &self.rest[name.len()..];
        if name.is_empty() {
            return Err(self.broken("a link's parameter has no name"));
        }
        let value = if self.skip_blanks() == Some(b'=') {
            self.advance();
            self.value()?
        } else {
            Vec::new()
        };
        match name.as_slice() {
            b"rel" => drop(link.relations.get_or_insert(value)),
            b"anchor" => drop(link.anchor.get_or_insert(value)),
            _ => {}
        }
        Ok(())
    }

    fn value(&mut self) -> Result<Vec<u8>, String> {
        if self.skip_blanks() != Some(b'"') {
            // Many a token holds what no token may; it ends where the parameter does.
            let end = self.rest.iter().position(|byte| b";,".contains(byte)).unwrap_or(self.rest.len());
            let value = self.rest[..end].trim_ascii_end().to_vec();
            self.rest = &self.rest[end..];
            return Ok(value);
        }
        self.advance();
        let mut value = Vec::new();
        loop {
            match self.peek() {
                None => return Err(self.broken("a quoted value has no closing quote")),
                Some(b'"') => break,
                Some(b'\\') if self.rest.len() > 1 => {
                    value.push(self.rest[1]);
                    self.advance();
                }
                Some(byte) => value.push(byte),
            }
            self.advance();
        }
        self.advance();
        Ok(value)
    }

    fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    fn advance(&mut self) {
        self.rest = &self.rest[1..];
    }

    /// Passes over blanks; what stands behind them.
    fn skip_blanks(&mut self) -> Option<u8> {
        while self.peek().is_some_and(is_blank) {
            self.advance();
        }
        self.peek()
    }

    fn broken(&self, what: &str) -> String {
        let at = self.length - self.rest.len() + 1;
        format!("the `Link` header, which names the next page, is broken at byte {at}: {what}")
    }
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn found(lines: &[&[u8]]) -> Result<Option<String>, String> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("link", HeaderValue::from_bytes(line).unwrap());
        }
        Ok(next(&headers, &Url::parse("http://api/items?page=2").unwrap())?.map(|url| url.to_string()))
    }

    #[test]
    fn the_next_page_is_found_whatever_stands_around_it() {
        for line in [
            b"</3>; rel=\"next\"".as_slice(),
            b"</3>;rel=next",
            b"</3> ; rel = next",
            b"</3>;\trel\t=\t\"next\"",
            b"</3>; REL=NEXT",
            b"</3>; rel=\"last  next\"",
            b"</3>;; rel=next;",
            b",, </3>; rel=next ,",
            b"< /3 >; rel=next",
            b"</1>; rel=prev, </3>; rel=next",
            b"</1>; rel=\"prev\",</3>;rel=\"next\"",
            b"</1>; title=\"x; rel=next\"; rel=prev, </3>; rel=next",
            b"</1>; title=\"a, <b>; rel=next, \"; rel=prev, </3>; rel=next",
            b"</1>; title=\"\\\"; rel=next\"; rel=last, </3>; rel=next",
            b"</1>; rel=prev; rel=next, </3>; rel=next; rel=prev",
            b"</1>; rel=prev; title=\"caf\xe9 \xff\", </3>; rel=next",
            b"</1>; title*=UTF-8''a%2c%3b; rel=prev, </3>; title=caf\xc3\xa9; rel=next",
            b"</1>; rel=next; anchor=\"#part\", </2>; rel=next; anchor=\"/other\", </3>; rel=next",
            b"</3>; rel=next; anchor=\"\"",
            b"</3>; rel=next; anchor=\"/items?page=2\"",
            b"</3>; rel=next, <broken",
            b"</3>; rel=next; crossorigin",
            b"</1>; relx=next; xrel=next, </3>; rel=next",
            b"</1>; rel=nextpage, </1>; rel=\"un next-to\", </3>; rel=next",
            b"</3>; rel=\"http://x/y;z,w next\"",
            b"</3>; rel=\"\\n\\e\\x\\t\"",
        ] {
            assert_eq!(found(&[line]).unwrap().as_deref(), Some("http://api/3"), "{}", line.escape_ascii());
        }
        assert_eq!(found(&[b"</1>; rel=prev", b"", b"</3>; rel=next"]).unwrap().as_deref(), Some("http://api/3"));
        assert_eq!(found(&[b"<?page=\xc3\xa9>; rel=next"]).unwrap().as_deref(), Some("http://api/items?page=%C3%A9"));
        assert_eq!(found(&[b"</caf\xe9;,>; rel=next"]).unwrap().as_deref(), Some("http://api/caf%E9;,"));
        assert_eq!(found(&[b"<>; rel=next"]).unwrap().as_deref(), Some("http://api/items?page=2"));
    }

    #[test]
    fn without_such_a_link_there_is_no_next_page() {
        for line in [
            b"".as_slice(),
            b" , ,",
            b"</3>",
            b"</3>; rel=prev",
            b"</3>; rel",
            b"</3>; rel=",
            b"</3>; rel=prev; rel=next",
            b"</3>; title=\"; rel=next\"",
            b"</3>; title=\"x; rel=next\"; rel=\"last\"",
            b"</3>; rev=next",
            b"</3>; rel*=UTF-8''next",
            b"</3>; rel=\"next\"; anchor=\"http://other/\"",
        ] {
            assert_eq!(found(&[line]), Ok(None), "{}", line.escape_ascii());
        }
    }

    #[test]
    fn a_header_that_is_broken_is_no_end_of_the_pages() {
        for line in [
            b"/3; rel=next".as_slice(),
            b"</3; rel=next",
            b"</3>; rel=\"next",
            b"</3>; rel=\"next\\",
            b"</3>; rel=\"next\" x",
            b"</3> rel=next",
            b"</3>; =next",
            b"</1>; rel=\"last; title=\"x\", </3>; rel=\"next\"",
            b"</1>; rel=prev, garbage, </3>; rel=next",
        ] {
            let why = found(&[line]).unwrap_err();
            assert!(why.starts_with("the `Link` header"), "{} {why}", line.escape_ascii());
        }
        for line in [
            b"<http://[::>; rel=next".as_slice(),
            b"<ftp://bob:hunter2@h/>; rel=next",
            b"<http://bob:hun/ter2@h/>; rel=next",
        ] {
            let why = found(&[line]).unwrap_err();
            assert!(why.starts_with("the next page: ") && !why.contains("ter2"), "{why}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_links_or_an_error(header in prop::collection::vec(any::<u8>(), 0..60), begin in any::<bool>()) {
            let header = if begin { [b"</x>; rel=".as_slice(), &header].concat() } else { header };
            next_targets(&header);
        }

        /// Whatever the other links say, the first that is next is found, and only it.
        #[test]
        fn what_is_written_is_read_back(
            links in prop::collection::vec(("[ -=?-~\u{e9}]{0,8}", any::<bool>(), ".{0,8}", 0..4usize), 0..5),
        ) {
            let mut written = Vec::new();
            let mut expected = Vec::new();
            for (target, is_next, title, way) in &links {
                let quoted: String = title.chars().filter(|c| !c.is_control()).flat_map(|c| {
                    if matches!(c, '"' | '\\') { vec!['\\', c] } else { vec![c] }
                }).collect();
                let rel = if *is_next { "next" } else { "prev" };
                let title = format!("title=\"{quoted}\"");
                written.push(match way {
                    0 => format!("<{target}>; rel={rel}; {title}"),
                    1 => format!("<{target}>;{title} ;rel=\"{rel}\""),
                    2 => format!("<{target}> ; {title}; REL = \"other {rel}\" ; rel=next"),
                    _ => format!("<{target}>; rel={rel}"),
                });
                expected.extend(is_next.then(|| target.as_bytes().to_vec()));
            }
            prop_assert_eq!(next_targets(written.join(",").as_bytes()), (expected, None));
        }
    }
}
