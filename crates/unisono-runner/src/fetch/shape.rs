//! Whether an expression gives one value for a body or a list of them: by its form, so that it is the same for every
//! body.
//!
//! It gives a list where something in it may have several outputs: `.[]`, `,`, `..`, `range`, `recurse`, `splits`,
//! `foreach` and the like, unless what stands around it makes one of them again (`[...]`, `reduce`, `first(...)`,
//! `any`). What has one output or none (`select(...)`, `.a?`, `empty`) stays a value that may be missing.
//!
//! jq's own functions are definitions in jq, so they are looked at like those of the expression; what only jaq can say
//! is a short list. Each definition is looked at once, for what it gives by itself and for which arguments decide.

use std::collections::BTreeSet;

use jaq_core::{
    load::{
        self,
        lex::StrPart,
        parse::{BinaryOp, Def, Pattern, Term},
    },
    path::{Part, Path},
};

/// Whether this expression, which is one, gives a list. Recurses as deeply as it nests.
pub fn gives_list(text: &str, definitions: impl Iterator<Item = Def<&'static str>>) -> bool {
    let mut scope = Scope::default();
    for definition in definitions {
        match definition.name {
            // It goes through the members of nothing.
            "empty" => scope.calls.push(("empty", Call::default())),
            _ => scope.define(&definition),
        }
    }
    load::parse(text, |parser| parser.term()).is_some_and(|term| scope.outputs(&term).several)
}

/// How many outputs something has.
#[derive(Default, Clone)]
struct Count {
    /// It may have several.
    several: bool,
    /// It may, if an argument does of one of the definitions that it stands in, by how deep these nest.
    given: BTreeSet<usize>,
}

impl Count {
    const ONE: Self = Self { several: false, given: BTreeSet::new() };
    const SEVERAL: Self = Self { several: true, given: BTreeSet::new() };

    fn and(mut self, other: Self) -> Self {
        self.several |= other.several;
        self.given.extend(other.given);
        self
    }
}

/// A function, by what calls of it give.
#[derive(Default, Clone)]
struct Call {
    alone: Count,
    /// Whether it has several outputs when its arguments have.
    passes_on: bool,
    /// Which arguments are values: each of several is a call of its own.
    values: Vec<bool>,
}

/// What names stand for: the last one of a name and number of arguments counts.
#[derive(Default)]
struct Scope<'a> {
    calls: Vec<(&'a str, Call)>,
    /// How many definitions are around.
    depth: usize,
}

impl<'a> Scope<'a> {
    fn define(&mut self, definition: &Def<&'a str>) {
        let values: Vec<bool> = definition.args.iter().map(|name| name.starts_with('$')).collect();
        let outside = self.calls.len();
        self.depth += 1;
        // A call of itself adds nothing that the rest of its body does not say.
        self.calls.push((definition.name, Call { values: values.clone(), ..Call::default() }));
        for name in definition.args.iter().filter(|name| !name.starts_with('$')) {
            let alone = Count { several: false, given: [self.depth].into() };
            self.calls.push((name, Call { alone, ..Call::default() }));
        }
        let mut alone = self.outputs(&definition.body);
        self.calls.truncate(outside);
        let passes_on = alone.given.remove(&self.depth);
        self.depth -= 1;
        self.calls.push((definition.name, Call { alone, passes_on, values }));
    }

    fn outputs(&mut self, term: &Term<&'a str>) -> Count {
        match term {
            Term::Id | Term::Num(_) | Term::Arr(_) | Term::Break(_) | Term::Var(_) => Count::ONE,
            Term::Recurse => Count::SEVERAL,
            Term::Str(_, parts) => self.all(parts.iter().filter_map(|part| match part {
                StrPart::Term(term) => Some(term),
                StrPart::Str(_) | StrPart::Char(_) => None,
            })),
            Term::Obj(members) => {
                self.all(members.iter().flat_map(|(name, value)| [Some(name), value.as_ref()]).flatten())
            }
            Term::Neg(inner) | Term::Label(_, inner) => self.outputs(inner),
            Term::BinOp(left, operator, right) => match operator {
                BinaryOp::Comma => Count::SEVERAL,
                // The left one says where.
                BinaryOp::Assign | BinaryOp::Update | BinaryOp::UpdateMath(_) | BinaryOp::UpdateAlt => {
                    self.outputs(right)
                }
                BinaryOp::Pipe(Some(pattern)) => self.all([&**left, &**right]).and(self.of_pattern(pattern)),
                BinaryOp::Pipe(None)
                | BinaryOp::Alt
                | BinaryOp::Or
                | BinaryOp::And
                | BinaryOp::Math(_)
                | BinaryOp::Cmp(_) => self.all([&**left, &**right]),
            },
            // What is folded is gone through; what it is folded into may be several.
            Term::Fold("reduce", _, _, terms) => self.all(terms),
            Term::Fold(..) => Count::SEVERAL,
            Term::TryCatch(tried, otherwise) => {
                self.all([Some(tried), otherwise.as_ref()].into_iter().flatten().map(|term| &**term))
            }
            Term::IfThenElse(branches, otherwise) => {
                let branches = branches.iter().flat_map(|(condition, then)| [condition, then]);
                self.all(branches.chain(otherwise.as_deref()))
            }
            Term::Def(definitions, rest) => {
                let outside = self.calls.len();
                definitions.iter().for_each(|definition| self.define(definition));
                let outputs = self.outputs(rest);
                self.calls.truncate(outside);
                outputs
            }
            Term::Call(name, arguments) => self.of_call(name, arguments),
            Term::Path(of, Path(parts)) => {
                let goes_through = parts.iter().any(|(part, _)| matches!(part, Part::Range(None, None)));
                let places = parts.iter().flat_map(|(part, _)| match part {
                    Part::Index(at) => [Some(at), None],
                    Part::Range(from, to) => [from.as_ref(), to.as_ref()],
                });
                let outputs = self.all(std::iter::once(&**of).chain(places.flatten()));
                if goes_through { Count::SEVERAL } else { outputs }
            }
        }
    }

    /// What is made of one output of each of these is several where one of them is.
    fn all<'t>(&mut self, terms: impl IntoIterator<Item = &'t Term<&'a str>>) -> Count
    where
        'a: 't,
    {
        terms.into_iter().fold(Count::ONE, |all, term| all.and(self.outputs(term)))
    }

    fn of_pattern(&mut self, pattern: &Pattern<&'a str>) -> Count {
        match pattern {
            Pattern::Var(_) => Count::ONE,
            Pattern::Arr(inner) => inner.iter().fold(Count::ONE, |all, inner| all.and(self.of_pattern(inner))),
            Pattern::Obj(members) => members.iter().fold(Count::ONE, |all, (name, inner)| {
                let name = self.outputs(name);
                all.and(name).and(self.of_pattern(inner))
            }),
        }
    }

    fn of_call(&mut self, name: &'a str, arguments: &[Term<&'a str>]) -> Count {
        let given: Vec<Count> = arguments.iter().map(|argument| self.outputs(argument)).collect();
        let is_it = |(known, call): &&(&str, Call)| *known == name && call.arity() == arguments.len();
        let Some((_, call)) = self.calls.iter().rev().find(is_it) else {
            return match (MANY.contains(&name), ONE_OF_MANY.contains(&name)) {
                (true, _) => Count::SEVERAL,
                (_, true) => Count::ONE,
                _ => given.into_iter().fold(Count::ONE, Count::and),
            };
        };
        let (values, passes_on) = (call.values.clone(), call.passes_on);
        let given = given.into_iter().zip(values).filter(|(_, is_value)| *is_value || passes_on);
        given.fold(call.alone.clone(), |all, (given, _)| all.and(given))
    }
}

impl Call {
    fn arity(&self) -> usize {
        self.values.len()
    }
}

/// Functions of jaq itself that have several outputs.
const MANY: &[&str] = &["key_values", "range"];
/// Those that have one, however many outputs their argument has.
const ONE_OF_MANY: &[&str] = &["first", "group_by", "last", "max_by_or_empty", "min_by_or_empty", "sort_by"];

#[cfg(test)]
mod tests {
    use super::super::jq;

    #[test]
    fn an_expression_that_goes_through_something_gives_a_list_and_any_other_a_value() {
        let values = r#"
            .   .a   .a.b?   .[0]   .[1:3]   .a // 0   [.[]]   [.a, .b]   {a, b: .c}   map(.a)   length   select(.a)
            empty   .a | select(. > 1)   .a | not   [.[] | .a] | add   add   add(.[])   keys   first(.[])   last(.[])
            first   any(.[]; .a)   all(.a)   any   isempty(.[])   to_entries   with_entries(.value)   group_by(.a)
            sort_by(.a, .b)   unique_by(.a)   min_by(.a)   map_values(. + 1)   reduce .[] as $x (0; . + $x)
            if .a then .b else .c end   try .a catch .b   "\(.a)"   @base64   @base64 "\(.a)"   test("a")   sub("a"; "b")
            join(",")   until(. > 9; . + 1)   walk(.)   del(.a, .b)   .a = 1   .a |= . + 1   .[] += 1   getpath(["a"])
            path(.a)   del(.[])   -.a   .a as $x | $x   . as {a: $x} | $x   def f: .a; f   def f(g): [g]; f(.[])
            def f: if . > 3 then . else . + 1 | f end; f   nth(2; .[])   label $out | .a   tojson   has("a")
            limit(1; .a)   flatten   pick(.a)   in([1])   tostring   ltrimstr("a")   values   numbers   error("x")
            now | todate
        "#;
        for one in values.split("   ").map(str::trim).filter(|text| !text.is_empty()) {
            assert_eq!(jq::check(one), Ok(false), "{one}");
        }
        let lists = r#"
            .[]   .[]?   .items[].id   .a[]   .a, .b   ..   recurse   recurse(.a)   range(3)   range(1; 3)
            range(0; 9; 3)   .[] | select(.a)   map(.a) | .[]   {a: .[]}   {(.[]): 1}   "\(.[])"   .[] // 0   .a // .[]
            .[] + 1   .a == .[]   if .[] then 1 else 2 end   if .a then .[] else 2 end   splits(",")   match("a"; "g")
            scan("a")   capture("(?<a>b)")   paths   paths(type == "number")   path(..)   foreach .[] as $x (0; . + $x)
            while(. < 9; . + 1)   repeat(. * 2)   limit(3; .[])   skip(1; .[])   combinations   combinations | first
            def f: .[]; f   def f(g): g; f(.[])   def f($x): $x; f(1, 2)   try .[] catch 0   -.[]   .[] as $x | $x
            label $out | .[] | if . > 2 then break $out else . end   (.a, .b) |= 1, 2   .[.a, .b]   has("a", "b")
            def f: 1, f; f   reduce .a as $x (1, 2; .)   select(.a, .b)   .a |= (1, 2)   ltrimstr("a", "b")
        "#;
        for many in lists.split("   ").map(str::trim).filter(|text| !text.is_empty()) {
            assert_eq!(jq::check(many), Ok(true), "{many}");
        }
    }

    #[test]
    fn definitions_upon_definitions_take_no_longer_than_they_are_long() {
        let mut text = "def f0(g): g;".to_owned();
        for number in 1..400 {
            text.push_str(&format!("def f{number}(g): f{}(g) | f{}(g);", number - 1, number - 1));
        }
        assert_eq!(jq::check(&format!("{text} f399(.a)")), Ok(false));
        assert_eq!(jq::check(&format!("{text} f399(.[])")), Ok(true));
        let nested = |last: &str| format!("{}{last}{}", "def f(g): ".repeat(500), "; f(.a)".repeat(500));
        assert_eq!(jq::check(&nested("g")), Ok(false));
        assert_eq!(jq::check(&nested("g, 1")), Ok(true));
    }
}
