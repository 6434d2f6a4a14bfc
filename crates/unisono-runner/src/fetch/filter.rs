//! jq expressions: what to keep of an answer, and where its next page is.
//!
//! The plain part of the language is evaluated here, where its cost is bounded (`unisono-select`). All of it is jaq's,
//! in a process of its own that can be killed ([`super::evaluator`]). What an expression means is the same in both.

use unisono_select::{Expression, Outputs};

use super::jq;

/// An expression that has been found to be one.
///
/// ```
/// use unisono_runner::Filter;
///
/// assert!(Filter::new(".items[].id").unwrap().is_plain());
/// assert!(!Filter::new("[.items[].price] | add").unwrap().is_plain());
/// assert!(Filter::new("halt").unwrap_err().contains("it would end the process"));
/// ```
#[derive(Debug, Clone)]
pub struct Filter {
    text: String,
    plain: Option<Expression>,
    gives_list: bool,
}

impl Filter {
    /// Reads an expression.
    ///
    /// # Errors
    /// When it is not one, with what is wrong where; and when it asks for what no expression may do.
    pub fn new(text: &str) -> Result<Self, String> {
        let plain = Expression::parse(text);
        let gives_list = match plain {
            // It nests so little that it needs no thread with room for that.
            Some(_) => jq::gives_list(text),
            None => jq::check(text)?,
        };
        Ok(Self { text: text.to_owned(), plain, gives_list })
    }

    /// Whether it is of the plain part, which needs no process of its own.
    pub fn is_plain(&self) -> bool {
        self.plain.is_some()
    }

    /// What it makes of a body, in the one shape that it gives: a list, whatever is in it, or a value; nothing where
    /// there is none.
    pub(super) fn json(&self, outputs: Outputs) -> Vec<u8> {
        if self.gives_list { outputs.into_list() } else { outputs.into_json() }
    }

    /// All outputs for a body, where nothing waits for a process that evaluates.
    ///
    /// # Errors
    /// When the body is not JSON, or the expression fails on it or is not of the plain part.
    pub fn run_here(&self, body: &[u8]) -> Result<Outputs, String> {
        let plain = self.plain.as_ref().ok_or_else(|| {
            format!(
                "`{}` is not of the plain part of jq (docs/expressions.md), which is what is evaluated here",
                self.text
            )
        })?;
        plain.run(body).map_err(|error| format!("`{}`: {error}", self.text))
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn plain(&self) -> Option<&Expression> {
        self.plain.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_expression_says_so_and_where() {
        for (text, why) in [
            (".items[", "closing bracket at its end"),
            ("nosuch(1)", "`nosuch` is not known"),
            ("{", "closing brace"),
            ("", "expected term at its end"),
            (".a | | .b", "at character 6"),
            ("$nosuch", "`$nosuch` is not known"),
        ] {
            let error = Filter::new(text).unwrap_err();
            assert!(error.contains("is not a jq expression") && error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn nothing_that_ends_the_process_or_reads_more_than_the_body_is_an_expression() {
        for (text, why) in [
            ("halt", "`halt` cannot be used here: it would end the process"),
            (".a | halt_error(3)", "`halt_error` cannot be used here"),
            ("halt_error", "`halt_error` cannot be used here"),
            ("env", "`env` cannot be used here: the environment"),
            ("env.HOME", "`env`"),
            ("$ENV.HOME", "`$ENV` cannot be used here"),
            ("[inputs]", "`inputs` cannot be used here"),
            ("input", "`input` cannot be used here"),
            ("input_filename", "`input_filename` cannot be used here"),
            ("debug", "`debug` cannot be used here"),
            ("debug(\"x\")", "`debug` cannot be used here"),
            ("stderr", "`stderr` cannot be used here"),
            ("stderr_empty", "`stderr_empty` cannot be used here"),
            ("now | localtime", "`localtime` cannot be used here"),
            ("import \"a\" as a; .", "modules cannot be used here"),
            ("include \"a\"; .", "modules cannot be used here"),
            ("def f: halt; .", "`halt` cannot be used here"),
        ] {
            let error = Filter::new(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
        // A name is what its definition says.
        assert!(Filter::new("def halt: 1; halt").is_ok());
    }

    #[test]
    fn no_text_takes_the_stack_of_whoever_reads_it() {
        for text in
            ["(".repeat(1_000_000), "-".repeat(16_000), "try ".repeat(4000), "[".repeat(16_000), "if ".repeat(5000)]
        {
            assert!(Filter::new(&text).is_err());
        }
        let pipes = format!(".{}", "|.+1".repeat(3000));
        assert!(Filter::new(&pipes).is_ok());
        assert!(Filter::new(&format!(".{}", " ".repeat(100_000))).unwrap_err().contains("longer than"));
    }
}
