//! All of jq, by jaq: reading expressions anywhere, evaluating them where a crash costs nothing.
//!
//! What an expression may call is a list: a function that jaq learns some day is not on it until what it does has
//! been looked at. Reading recurses as deeply as an expression nests, so it has a thread with room for the longest.
//!
//! What comes out is JSON or an error: not a number, infinity, bytes, a name that is no string, a number with too many
//! digits and too many levels have no place in a line of results. (jq prints `null`, or the largest double, instead.)

use std::{fmt::Write as _, thread};

use jaq_core::{
    Compiler, Ctx, Vars, compile, data,
    load::{Arena, File, Loader, parse::Def},
    unwrap_valr,
};
use jaq_json::{Num, Val, read};
use unisono_journal::push_json_string;
use unisono_select::{MAX_DEPTH, MAX_DIGITS, Outputs};

use super::shape;

type Native = jaq_core::Native<data::JustLut<Val>>;

/// Whether this is an expression that may be evaluated. Returns whether it [gives a list](gives_list).
///
/// # Errors
/// What is wrong with it, and where.
pub fn check(text: &str) -> Result<bool, String> {
    if text.len() > LONGEST_BYTES {
        return Err(format!("the expression is longer than {LONGEST_BYTES} bytes"));
    }
    let text = text.to_owned();
    with_room(move || Compiled::new(&text).map(|_| gives_list(&text)))?
}

/// Whether an expression gives a list for a body, and not one value or none. Recurses as deeply as it nests.
pub fn gives_list(text: &str) -> bool {
    shape::gives_list(text, definitions())
}

/// Runs on a thread with room for what recurses.
///
/// # Errors
/// When there is no such thread, or it panicked.
pub fn with_room<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    let thread = thread::Builder::new().name("unisono-jq".into()).stack_size(STACK_BYTES).spawn(work);
    let thread = thread.map_err(|error| format!("there is no thread to read expressions: {error}"))?;
    thread.join().map_err(|_| "the evaluator of expressions failed".to_owned())
}

/// A compiled expression. It stays on its thread.
pub struct Compiled(compile::Filter<Native>);

impl Compiled {
    /// Compiles an expression.
    ///
    /// # Errors
    /// When it is not one, with what is wrong where.
    pub fn new(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| format!("`{text}` is not a jq expression: {what}");
        let arena = Arena::default();
        let modules = Loader::new(definitions())
            .load(&arena, File { code: text, path: () })
            .map_err(|errors| wrong(&parse_error(&errors, text)))?;
        let functions = jaq_core::funs().chain(jaq_std::funs()).chain(jaq_json::funs());
        let allowed = functions.filter(|(name, ..)| refusal(name).is_none() && is_listed(name));
        let compiled = Compiler::default().with_funs(allowed).compile(modules).map_err(|errors| {
            let unknown: Vec<&str> = errors.iter().flat_map(|(_, errors)| errors).map(|(name, _)| *name).collect();
            match unknown.iter().find_map(|name| Some((name, refusal(name)?))) {
                Some((name, why)) => format!("`{text}`: `{name}` cannot be used here: {why}"),
                None => {
                    let names: Vec<_> = unknown.iter().map(|name| format!("`{name}`")).collect();
                    wrong(&format!("{} is not known", names.join(", ")))
                }
            }
        })?;
        Ok(Self(compiled))
    }

    /// All outputs for one body, of at most so many bytes together.
    ///
    /// # Errors
    /// When the body is not JSON within the bounds, the expression fails on it, or an output is not JSON.
    pub fn run(&self, body: &[u8], most: usize) -> Result<Outputs, String> {
        unisono_select::check(body).map_err(|error| error.to_string())?;
        let input = read::parse_single(body).map_err(|error| format!("the body is not JSON: {error}"))?;
        let context = Ctx::<data::JustLut<Val>>::new(&self.0.lut, Vars::new([]));
        let mut outputs = Outputs::default();
        for output in self.0.id.run((context, input)).map(unwrap_valr) {
            let value = output.map_err(|error| shortened(&error.to_string()))?;
            outputs.push(|text| push(&value, MAX_DEPTH, most, text))?;
        }
        if outputs.parts().0.len() > most {
            return Err(too_large(most));
        }
        Ok(outputs)
    }
}

fn definitions() -> impl Iterator<Item = Def<&'static str>> {
    let all = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
    all.filter(|definition| refusal(definition.name).is_none() && is_listed(definition.name))
}

/// Why a name cannot be used.
fn refusal(name: &str) -> Option<&'static str> {
    REFUSED.iter().find_map(|(names, why)| names.contains(&name).then_some(*why))
}

fn is_listed(name: &str) -> bool {
    LISTED.split_ascii_whitespace().any(|listed| listed == name)
}

/// Appends a value as JSON.
fn push(value: &Val, levels: usize, most: usize, into: &mut Vec<u8>) -> Result<(), String> {
    if into.len() > most {
        return Err(too_large(most));
    }
    let deeper =
        || levels.checked_sub(1).ok_or_else(|| format!("an output has more than {MAX_DEPTH} levels of brackets"));
    match value {
        Val::Null => into.extend_from_slice(b"null"),
        Val::Bool(bool) => into.extend_from_slice(if *bool { b"true" } else { b"false" }),
        Val::Num(number) => push_number(number, into)?,
        Val::TStr(text) => push_json_string(&String::from_utf8_lossy(text), into),
        Val::BStr(_) => return Err("an output holds bytes, which JSON cannot".to_owned()),
        Val::Arr(values) => {
            let levels = deeper()?;
            into.push(b'[');
            for (at, value) in values.iter().enumerate() {
                if at > 0 {
                    into.push(b',');
                }
                push(value, levels, most, into)?;
            }
            into.push(b']');
        }
        Val::Obj(members) => {
            let levels = deeper()?;
            into.push(b'{');
            for (at, (name, value)) in members.iter().enumerate() {
                if at > 0 {
                    into.push(b',');
                }
                let Val::TStr(name) = name else {
                    return Err("an output has a member whose name is no string".to_owned());
                };
                push_json_string(&String::from_utf8_lossy(name), into);
                into.push(b':');
                push(value, levels, most, into)?;
            }
            into.push(b'}');
        }
    }
    Ok(())
}

/// Why so many bytes are not enough.
pub fn too_large(most: usize) -> String {
    format!("what it makes of the body is larger than {} MiB", most >> 20)
}

fn push_number(number: &Num, into: &mut Vec<u8>) -> Result<(), String> {
    let long = || format!("an output has a number of more than {MAX_DIGITS} digits");
    match number {
        // Three bits and a third make a digit. Writing out takes more than linear time.
        Num::BigInt(number) if number.bits() > MAX_DIGITS as u64 * 10 / 3 => return Err(long()),
        Num::Float(number) if number.is_nan() => {
            return Err("an output is not a number (NaN), which JSON cannot hold; 0/0 makes one".to_owned());
        }
        Num::Float(number) if number.is_infinite() => {
            return Err("an output is infinite, which JSON cannot hold; a division by zero makes one".to_owned());
        }
        // Digits of a literal, which may begin with zeros.
        Num::Dec(digits) if unisono_select::check(digits.as_bytes()).is_err() => {
            if digits.len() > MAX_DIGITS {
                return Err(long());
            }
            return push_number(&Num::from_dec_str(digits), into);
        }
        _ => {}
    }
    let start = into.len();
    let mut text = String::new();
    write!(text, "{number}").expect("writing to memory does not fail");
    into.extend_from_slice(text.as_bytes());
    if into.len() - start > MAX_DIGITS { Err(long()) } else { Ok(()) }
}

/// A message of jaq's, which may hold all of a body.
fn shortened(message: &str) -> String {
    match message.char_indices().nth(LONGEST_MESSAGE_CHARS) {
        Some((at, _)) => format!("{}...", &message[..at]),
        None => message.to_owned(),
    }
}

fn parse_error(errors: &jaq_core::load::Errors<&str, ()>, text: &str) -> String {
    use jaq_core::load::Error;
    let place = |rest: &str| match rest.is_empty() {
        true => "at its end".to_owned(),
        false => format!("at character {}", text.len().saturating_sub(rest.len()) + 1),
    };
    // What was found is a part of the text, whose end is not the text's.
    let place_of = |found: &str| match (found.as_ptr() as usize).checked_sub(text.as_ptr() as usize) {
        Some(at) if !found.is_empty() && at < text.len() => format!("at character {}", at + 1),
        _ => "at its end".to_owned(),
    };
    let Some((_, error)) = errors.first() else { return "it is empty".to_owned() };
    let said: Vec<String> = match error {
        Error::Io(_) => vec!["modules cannot be used here, since no expression reads files".to_owned()],
        Error::Lex(errors) => {
            errors.iter().map(|(expected, rest)| format!("{} {}", expected.as_str(), place(rest))).collect()
        }
        Error::Parse(errors) => errors
            .iter()
            .map(|(expected, found)| format!("expected {} {}", expected.as_str(), place_of(found)))
            .collect(),
    };
    said.join(", ")
}

/// Of an expression.
const LONGEST_BYTES: usize = 16 << 10;
/// Each byte of an expression may be a level, and a level takes some kilobytes where nothing is optimised. It is
/// address space, and no memory before it is used.
pub const STACK_BYTES: usize = 256 << 20;
const LONGEST_MESSAGE_CHARS: usize = 300;

/// Names that are refused, and why.
const REFUSED: &[(&[&str], &str)] = &[
    (&["halt", "halt_error"], "it would end the process"),
    (&["env", "$ENV", "get_search_list"], "the environment is not for expressions"),
    (&["input", "inputs", "input_filename", "input_line_number", "modulemeta"], "there is no input but the body"),
    (&["debug", "debug_empty", "stderr", "stderr_empty"], "standard error is not for expressions"),
    (&["localtime", "strflocaltime"], "it reads the time zone of the machine; gmtime and strftime do not"),
];

/// Functions and definitions of jaq that only compute, or say the time.
const LISTED: &str = "
    @base64 @base64d @html @htmld @json @sh @text @uri @urid abs acos acosh add all any arrays ascii_downcase
    ascii_upcase asin asinh atan atan2 atanh booleans bsearch capture capture_of_match cbrt ceil combinations
    contains copysign cos cosh decode_base64 decode_uri del delpaths drem empty encode_base64 encode_uri
    endswith erf erfc error error_empty escape_html escape_sh exp exp10 exp2 explode expm1 fabs false fdim
    finites first flatten floor fma fmax fmin fmod frexp from_entries fromdate fromdateiso8601 fromjson gamma
    getpath gmtime group_by gsub has hypot ilogb implode in index indices infinite inside isarray isboolean
    isempty isfinite isinfinite isnan isnormal isnumber isobject isstring iterables j0 j1 jn join key_values
    keys keys_unsorted last ldexp length lgamma limit log log10 log1p log2 logb ltrim ltrimstr map map_values
    match matches max max_by max_by_or_empty min min_by min_by_or_empty mktime modf nan nearbyint nextafter
    nexttoward normals not now nth null nulls numbers objects path path_value paths pick pow pow10 range recurse
    remainder repeat reverse rindex rint round rtrim rtrimstr scalars scalb scalbln scan scan_ select
    setpath significand sin sinh skip sort sort_by split split_ split_matches splits sqrt startswith strftime
    strings strptime sub tan tanh test tgamma to_entries toboolean tobytes todate todateiso8601 tojson tonumber
    tostring totype transpose trim true trunc type unescape_html unique unique_by until utf8bytelength values
    walk while with_entries y0 y1 yn
";

#[cfg(test)]
mod tests {
    use super::*;

    fn run(expression: &str, body: &str) -> Result<String, String> {
        let (expression, body) = (expression.to_owned(), body.to_owned());
        with_room(move || {
            let outputs = Compiled::new(&expression)?.run(body.as_bytes(), 1 << 20)?;
            Ok(String::from_utf8(outputs.into_json()).unwrap())
        })?
    }

    #[test]
    fn every_function_of_jaq_is_listed_or_refused_and_none_is_both() {
        let definitions =
            jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs()).map(|each| each.name.to_owned());
        let functions = jaq_core::funs::<data::JustLut<Val>>().chain(jaq_std::funs()).chain(jaq_json::funs());
        let names: Vec<String> = definitions.chain(functions.map(|(name, ..)| name.to_owned())).collect();
        for name in &names {
            assert_ne!(is_listed(name), refusal(name).is_some(), "{name}");
        }
        let unknown = LISTED.split_ascii_whitespace().find(|listed| !names.iter().any(|name| name == listed));
        assert_eq!(unknown, None, "listed, but not there");
    }

    #[test]
    fn what_json_cannot_hold_is_an_error_and_no_output() {
        for (expression, why) in [
            ("1 / 0", "infinite"),
            ("-1 / 0", "infinite"),
            (".n / .zero", "infinite"),
            (".zero / .zero", "not a number"),
            ("nan", "not a number"),
            ("[infinite]", "infinite"),
            ("{a: nan}", "not a number"),
            ("\"x\" | tobytes", "bytes"),
            ("[\"x\" | tobytes]", "bytes"),
            ("{(1): 2}", "whose name is no string"),
            ("\"NaN\" | fromjson", "not a number"),
            ("[limit(2000; repeat(10))] | reduce .[] as $x (1; . * 100000)", "more than 4096 digits"),
            ("reduce range(600) as $i (0; [.])", "more than 512 levels"),
            ("[range(300000)]", "larger than 1 MiB"),
            ("\"x\" * 3000000", "larger than 1 MiB"),
            ("error(\"own\")", "own"),
            (".n.x", "cannot index"),
        ] {
            let error = run(expression, r#"{"n": 1, "zero": 0}"#).unwrap_err();
            assert!(error.contains(why), "{expression}: {error}");
        }
    }

    #[test]
    fn what_comes_out_is_json_with_the_digits_that_went_in() {
        let body = r#"{"big": 12345678901234567890123, "exact": 1.10, "text": "a\"\u0001é"}"#;
        for (expression, output) in [
            (". | if true then . else 1 end", r#"{"big":12345678901234567890123,"exact":1.10,"text":"a\"\u0001é"}"#),
            ("007.50 + 0, 007.50", "[7.5,7.5]"),
            (".big + 1", "12345678901234567890124"),
            ("[1, 2] | add, (map(. / 2))", "[3,[0.5,1.0]]"),
            (".text | ascii_upcase", r#""A\"\u0001é""#),
            ("empty | tostring", ""),
            ("\"\\(1 + 1)\"", "\"2\""),
        ] {
            assert_eq!(run(expression, body).as_deref(), Ok(output), "{expression}");
        }
    }

    #[test]
    fn a_body_that_only_jaq_would_take_is_no_json() {
        for body in ["NaN", "{1: 2}", "[1] # x", "b\"x\"", "+1", "Infinity", "01"] {
            assert!(run("tojson", body).unwrap_err().contains("the body is not JSON that can be read"), "{body}");
        }
        assert!(run("tojson", &"[".repeat(30_000)).unwrap_err().contains("more than 512 levels"));
        assert!(run("tojson", &"9".repeat(1_000_000)).unwrap_err().contains("more than 4096 digits"));
    }
}
