//! What expressions mean: by a table, and by jaq, which knows all of the language.

use jaq_core::{
    Compiler, Ctx, Vars, data,
    load::{Arena, File, Loader},
    unwrap_valr,
};
use jaq_json::{Val, read};
use proptest::prelude::*;
use unisono_select::{ErrorKind, Expression, MAX_DEPTH, MAX_DIGITS, fuzz, work_for};

/// All outputs with commas between, or why there are none.
fn run(expression: &str, body: &str) -> Result<String, String> {
    let parsed = Expression::parse(expression).unwrap_or_else(|| panic!("{expression} is of the plain part"));
    let outputs = parsed.run(body.as_bytes()).map_err(|error| error.to_string())?;
    Ok(String::from_utf8(outputs.parts().0.to_vec()).unwrap())
}

#[test]
fn expressions_mean_what_they_mean_in_jq() {
    let body = r#"{"a": {"b": 1, "a b": "x\u00e9"}, "n": null, "l": [1, -2.50, "three", [4], {"v": 5}], "t": true, "big": 12345678901234567890123}"#;
    for (expression, outputs) in [
        (".a.b", "1"),
        (
            ".",
            r#"{"a":{"b":1,"a b":"x\u00e9"},"n":null,"l":[1,-2.50,"three",[4],{"v":5}],"t":true,"big":12345678901234567890123}"#,
        ),
        (r#".a."a b""#, r#""x\u00e9""#),
        (r#".a["b"], .["t"], .a.["b"]"#, "1,true,1"),
        (".nosuch.deeper[3]", "null"),
        (".n.x", "null"),
        (".l[0], .l[-1].v, .l[7], .l[-9]", "1,5,null,null"),
        (".l[1:3], .l[-2:], .l[:1], .l[4:2]", r#"[-2.50,"three"],[[4],{"v":5}],[1],[]"#),
        (r#"(.a."a b")[1:], .l[2][-2:]"#, r#""é","ee""#),
        (".l[]", r#"1,-2.50,"three",[4],{"v":5}"#),
        (".a[]", r#"1,"x\u00e9""#),
        (".l[].v?", "5"),
        (".t[]?, .t.x?, .t[0]?, .t[1:]?", ""),
        (".l | length", "5"),
        ("(.l, .a, .n, .l[1], .a.\"a b\") | length", "5,2,0,2.50,2"),
        (".a | keys", r#"["a b","b"]"#),
        (".l | keys", "[0,1,2,3,4]"),
        ("[.l[] | type]", r#"["number","number","string","array","object"]"#),
        ("{b: .a.b, \"x y\": .t, (.l[2]): 1}", r#"{"b":1,"x y":true,"three":1}"#),
        ("{n, t}", r#"{"n":null,"t":true}"#),
        ("{a: (1, 2), b: (3, 4)}", r#"{"a":1,"b":3},{"a":1,"b":4},{"a":2,"b":3},{"a":2,"b":4}"#),
        ("{a: 1, b: 2, a: 3}", r#"{"a":3,"b":2}"#),
        ("[], {}, [{}]", "[],{},[{}]"),
        ("[.l[] | select(. == 1 or type == \"array\")]", "[1,[4]]"),
        (".l | map(. > 1)", "[false,false,true,true,true]"),
        (".n // .a.b, .nosuch // 0, (.l[9], false) // 7, empty // 1", "1,0,7,1"),
        (".t and .n, (.t or .n), (.n | not)", "false,true,true"),
        (".a.b == 1.0, .a.b != 1, 1 < 2, 2 <= 2, \"a\" > \"b\", [1] >= [1]", "true,false,true,true,false,true"),
        ("null < false, false < true, true < 0, 0 < \"\", \"\" < [], [] < {}", "true,true,true,true,true,true"),
        (".big == 12345678901234567890123, .big < 12345678901234567890124", "true,true"),
        ("{a: 1, b: 2} == {b: 2, a: 1.0}", "true"),
        ("-1, 007, 1.50, -0, \"a\\n\\u00e9\\\"\"", "-1,7,1.50,0,\"a\\u000aé\\\"\""),
        ("empty", ""),
    ] {
        assert_eq!(run(expression, body).as_deref(), Ok(outputs), "{expression}");
    }
}

#[test]
fn of_members_with_one_name_the_last_counts() {
    let body = r#"{"a": 1, "b": 2, "\u0061": 3}"#;
    for (expression, outputs) in [(".a", "3"), ("length", "2"), ("[.[]]", "[3,2]"), ("keys", r#"["a","b"]"#)] {
        assert_eq!(run(expression, body).as_deref(), Ok(outputs), "{expression}");
    }
    let many: Vec<_> = (0..40).map(|at| format!("\"k{}\":{at}", at % 20)).collect();
    let body = format!("{{{}}}", many.join(","));
    assert_eq!(run("length, .k3, ([.[]] | length)", &body).as_deref(), Ok("20,23,20"));
}

#[test]
fn what_cannot_be_applied_says_to_what() {
    let body = r#"{"s": "text", "l": [1], "b": true, "long": "0123456789012345678901234567890123456789x"}"#;
    for (expression, why) in [
        (".s.a", "cannot look for \"a\" in a string (\"text\")"),
        (".l.a", "cannot look for \"a\" in an array"),
        (".s[0]", "cannot look for element 0 in a string (\"text\")"),
        (".b[]", "cannot iterate over true"),
        (".nosuch[]", "cannot iterate over null"),
        (".b | length", "true has no length"),
        (".s | keys", "a string (\"text\") has no keys"),
        ("{(.l): 1}", "an array is no name of a member"),
        (".[1:]", "cannot take a slice of an object"),
        (".long.x", "cannot look for \"x\" in a string (\"012345678901234567890123456789012345678...)"),
    ] {
        assert_eq!(run(expression, body).unwrap_err(), why, "{expression}");
    }
    assert!(run(".", "<html>").unwrap_err().contains("the body is not JSON that can be read: no value at byte 0"));
}

#[test]
fn no_body_and_no_expression_takes_more_than_its_work() {
    let deep = "[".repeat(30_000);
    assert!(run(".a", &deep).unwrap_err().contains("levels of brackets"));
    assert!(run(".a", &format!("{{\"a\":{}}}", "7".repeat(1_000_000))).unwrap_err().contains("digits"));
    // Each pipe doubles what comes through it.
    let doubling = format!("[.]{}", " | [.[], .[]]".repeat(30));
    let error = Expression::parse(&doubling).unwrap().run(b"1").unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string()),
        (ErrorKind::Work, "it takes too many steps for a body of this length".to_owned())
    );
    let output = format!("{}{}", ".", ",.".repeat(100));
    let body = format!("\"{}\"", "x".repeat(100_000));
    assert_eq!(Expression::parse(&output).unwrap().run(body.as_bytes()).unwrap_err().kind(), ErrorKind::Work);
    // What is due is enough for what people write.
    let rows: Vec<_> = (0..20_000).map(|at| format!("{{\"id\": {at}, \"tags\": [\"a\", \"b\"]}}")).collect();
    let body = format!("{{\"items\": [{}]}}", rows.join(", "));
    assert!(run(".items | map({id, n: .tags | length}) | length", &body).is_ok());
    let deepest = format!("{}1{}", "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH));
    assert!(run(". == ., .", &deepest).is_ok());
}

/// The same by jaq; `None` when it fails.
fn jaq(expression: &str, body: &str) -> Option<Vec<Val>> {
    let definitions = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
    let functions = jaq_core::funs().chain(jaq_std::funs()).chain(jaq_json::funs());
    let arena = Arena::default();
    let modules = Loader::new(definitions).load(&arena, File { code: expression, path: () }).expect("it parses");
    let filter = Compiler::default().with_funs(functions).compile(modules).expect("it compiles");
    let context = Ctx::<data::JustLut<Val>>::new(&filter.lut, Vars::new([]));
    filter
        .id
        .run((context, read::parse_single(body.as_bytes()).unwrap()))
        .map(|output| unwrap_valr(output).ok())
        .collect()
}

fn expression() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        ".",
        ".a",
        ".b",
        ".a.b",
        ".[]",
        ".[]?",
        ".a?",
        ".[0]",
        ".[-1]",
        ".[-2]?",
        ".[1:]",
        ".[:2]?",
        ".[0:1]",
        r#"."a b""#,
        r#".["a"]"#,
        "1",
        "-1",
        "1.5",
        "0",
        "\"a\"",
        "\"x\\u00e9\"",
        "null",
        "true",
        "false",
        "[]",
        "{}",
        "length",
        "keys",
        "not",
        "type",
        "empty",
        "{a}",
        "{a, \"b\": 1}",
        ".[][]?",
        ".a[0]?",
        "12345678901234567890",
    ]);
    leaf.prop_map(str::to_owned).prop_recursive(4, 24, 3, |inner| {
        let operator = prop::sample::select(vec!["|", ",", "//", "and", "or", "==", "!=", "<", "<=", ">", ">="]);
        prop_oneof![
            (inner.clone(), operator.clone(), inner.clone())
                .prop_map(|(left, operator, right)| format!("({left}) {operator} ({right})")),
            // Without parentheses, so that it is seen how operators bind.
            (inner.clone(), prop::sample::select(vec!["|", ",", "//", "and", "or"]), inner.clone())
                .prop_map(|(left, operator, right)| format!("{left} {operator} {right}")),
            inner.clone().prop_map(|inner| format!("[{inner}]")),
            inner.clone().prop_map(|inner| format!("({inner})[0]?")),
            inner.clone().prop_map(|inner| format!("({inner}).a?")),
            inner.clone().prop_map(|inner| format!("select({inner})")),
            inner.clone().prop_map(|inner| format!("map({inner})")),
            (inner.clone(), inner.clone()).prop_map(|(one, other)| format!("{{a: ({one}), b: ({other})}}")),
            (inner.clone(), inner).prop_map(|(one, other)| format!("{{({one}): 1, c: ({other})}}")),
        ]
    })
}

fn body() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "null",
        "true",
        "false",
        "0",
        "1",
        "-2",
        "1.5",
        "1.0",
        "12345678901234567890",
        "12345678901234567891",
        "\"\"",
        "\"a\"",
        "\"b\"",
        "\"x\\u00e9\\n\"",
        "\"😀z\"",
        "[]",
        "{}",
    ]);
    leaf.prop_map(str::to_owned).prop_recursive(4, 20, 4, |inner| {
        let name = prop::sample::select(vec!["a", "b", "a b", "\\u0061", "c", "é"]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|values| format!("[{}]", values.join(" , "))),
            prop::collection::vec((name, inner), 0..4).prop_map(|members| {
                let members: Vec<_> = members.iter().map(|(name, value)| format!("\"{name}\" : {value}")).collect();
                format!("{{{}}}", members.join(",\n"))
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(800))]

    #[test]
    fn jaq_says_the_same(expression in expression(), body in body()) {
        // A comparison of a comparison is the one thing of the above that is left to others.
        let Some(parsed) = Expression::parse(&expression) else { return Ok(()) };
        let (own, theirs) = (parsed.run(body.as_bytes()), jaq(&expression, &body));
        // A name that is no string is an error in jq and here, and none in jaq.
        if own.as_ref().is_err_and(|error| error.to_string().contains("no name of a member")) {
            return Ok(());
        }
        match (own, theirs) {
            // jaq forgets an error in one part of an object or comparison when another part has no output.
            (Err(_), Some(_)) if expression.contains(['{', '=', '<', '>']) && ["?", "[]", "empty", "select"].iter().any(|part| expression.contains(part)) => {}
            (Err(error), theirs) => prop_assert!(theirs.is_none(), "{expression} on {body}: {error}; jaq: {theirs:?}"),
            (Ok(own), None) => prop_assert!(false, "{expression} on {body}: {own:?}; jaq fails"),
            (Ok(own), Some(theirs)) => {
                let text = format!("[{}]", std::str::from_utf8(own.parts().0).unwrap());
                let own = read::parse_single(text.as_bytes()).unwrap();
                prop_assert_eq!(own, theirs.into_iter().collect::<Val>(), "{} on {}", expression, body);
            }
        }
    }

    #[test]
    fn any_expression_on_any_body_is_bounded(expression in expression(), body in body(), cut in 0usize..60, junk in any::<Vec<u8>>()) {
        fuzz(expression.as_bytes(), body.as_bytes());
        fuzz(&expression.as_bytes()[..cut.min(expression.len())], body.as_bytes());
        fuzz(expression.as_bytes(), &body.as_bytes()[..cut.min(body.len())]);
        fuzz(&junk, body.as_bytes());
        fuzz(expression.as_bytes(), &junk);
    }
}

#[test]
fn what_is_due_covers_the_bounds_of_a_body() {
    assert!(work_for(0) > MAX_DIGITS);
}
