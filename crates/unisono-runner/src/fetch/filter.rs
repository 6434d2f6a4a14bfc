//! jq expressions, by jaq: what to keep of an answer, and where its next page is.

use std::fmt;

use jaq_core::{
    Compiler, Ctx, Vars, compile, data,
    load::{Arena, File, Loader},
    unwrap_valr,
};
use jaq_json::{Val, read, write};
use unisono_select::{Expression, Outputs};

/// A compiled expression.
///
/// ```
/// let filter = unisono_runner::Filter::new(".items[].id").unwrap();
/// let outputs = filter.run(br#"{"items":[{"id":1},{"id":"b"}]}"#).unwrap();
/// assert_eq!(outputs.into_json(), br#"[1,"b"]"#);
/// ```
pub struct Filter {
    text: String,
    /// For what the plain part of jq can say.
    plain: Option<Expression>,
    compiled: compile::Filter<jaq_core::Native<data::JustLut<Val>>>,
}

impl Filter {
    /// Compiles an expression.
    ///
    /// # Errors
    /// When it is not one, with what is wrong where.
    pub fn new(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| format!("`{text}` is not a jq expression: {what}");
        let definitions = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
        let functions = jaq_core::funs().chain(jaq_std::funs()).chain(jaq_json::funs());
        let arena = Arena::default();
        let modules = Loader::new(definitions)
            .load(&arena, File { code: text, path: () })
            .map_err(|errors| wrong(&parse_error(&errors, text)))?;
        let compiled = Compiler::default().with_funs(functions).compile(modules).map_err(|errors| {
            let unknown = errors.iter().flat_map(|(_, errors)| errors).map(|(name, _)| format!("`{name}`"));
            wrong(&format!("{} is not known", unknown.collect::<Vec<_>>().join(", ")))
        })?;
        Ok(Self { text: text.to_owned(), plain: Expression::parse(text), compiled })
    }

    /// All outputs for one JSON value.
    ///
    /// # Errors
    /// When the input is not JSON, or the expression fails on it.
    pub fn run(&self, json: &[u8]) -> Result<Outputs, String> {
        let failed = |why: &dyn fmt::Display| format!("`{}`: {why}", self.text);
        if let Some(plain) = &self.plain {
            return plain.run(json).map_err(|error| failed(&error));
        }
        let input = read::parse_single(json).map_err(|error| failed(&format!("the body is not JSON: {error}")))?;
        let context = Ctx::<data::JustLut<Val>>::new(&self.compiled.lut, Vars::new([]));
        let outputs = self.compiled.id.run((context, input)).map(unwrap_valr);
        let mut all = Outputs::default();
        for output in outputs {
            let output = output.map_err(|error| failed(&error))?;
            all.push(|text| {
                text.extend_from_slice(print(&output).as_bytes());
                Ok::<(), String>(())
            })?;
        }
        Ok(all)
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Filter({})", self.text)
    }
}

fn print(value: &Val) -> String {
    let mut text = Vec::new();
    write::write(&mut text, &write::Pp::default(), 0, value).expect("writing to memory does not fail");
    String::from_utf8_lossy(&text).into_owned()
}

fn parse_error(errors: &jaq_core::load::Errors<&str, ()>, text: &str) -> String {
    use jaq_core::load::Error;
    let place = |rest: &str| match rest.is_empty() {
        true => "at its end".to_owned(),
        false => format!("at character {}", text.len().saturating_sub(rest.len()) + 1),
    };
    let Some((_, error)) = errors.first() else { return "it is empty".to_owned() };
    let said: Vec<String> = match error {
        Error::Io(errors) => errors.iter().map(|(path, why)| format!("{path}: {why}")).collect(),
        Error::Lex(errors) => {
            errors.iter().map(|(expected, rest)| format!("{} {}", expected.as_str(), place(rest))).collect()
        }
        Error::Parse(errors) => {
            errors.iter().map(|(expected, found)| format!("expected {} {}", expected.as_str(), place(found))).collect()
        }
    };
    said.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_expression_says_so() {
        for text in [".items[", "nosuch(1)", "{"] {
            assert!(Filter::new(text).unwrap_err().contains("is not a jq expression"), "{text}");
        }
    }

    #[test]
    fn numbers_keep_their_digits() {
        let filter = Filter::new(".n").unwrap();
        assert_eq!(filter.run(br#"{"n":12345678901234567890}"#).unwrap().into_json(), b"12345678901234567890");
    }

    #[test]
    fn an_expression_that_fails_is_an_error_and_no_output() {
        assert!(Filter::new(".a.b").unwrap().run(b"{\"a\":3}").is_err());
        assert!(Filter::new(".").unwrap().run(b"<html>").unwrap_err().contains("not JSON"));
    }
}
