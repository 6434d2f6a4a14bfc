//! No item is ever run as code, unless it was said to be code: a recipe is looked at as a whole, before anything
//! starts.
//!
//! - A place in a script of ours (`--shell`) has to stand where a word does; see [`Standing`].
//! - A place in what another program reads as code is refused, and so are items that an interpreter reads from its
//!   standard input or finds in its environment; see [`nested`].
//! - What goes into a line that a program hands to a shell (`ssh`, `make X={}`, `tar -I`) may hold places, but what
//!   fills them must be harmless to a shell, or its row fails.
//! - A program text that is the place and nothing else (`sh -c {}`, `--stdin {} -- sh`), with no script of ours around
//!   it, says as clearly as can be that items are programs, and is only told of. So does a script that its user gives
//!   to a shell and that evaluates its argument.
//!
//! `items_are_code` is how to insist. docs/each-code.md has a table of it, which is tested.

use super::{
    nested::{Nested, Reader, Reading, Seen, fed, nested, read_as, reads_code},
    recipe::{Recipe, Word},
    script::{PLACE, Script, Standing},
};

/// Whether the script of a recipe takes its items by itself, as `"$1"` or `$UNISONO_ITEM`.
pub(crate) fn takes_items(recipe: &Recipe) -> bool {
    let text = script_of(recipe);
    recipe.shell && (Script::read(&text).expands_arguments || text.windows(ITEM.len()).any(|window| window == ITEM))
}

/// Looks at a recipe, the last `appended` words of which its user has not written. Returns what to warn of.
///
/// # Errors
/// When an item could be run as code.
pub(crate) fn vet(recipe: &mut Recipe, appended: usize) -> Result<Vec<String>, String> {
    let mut warnings = Vec::new();
    if recipe.shell {
        vet_script(recipe, appended)?;
    } else if !recipe.items_are_code {
        let patterns: Vec<Vec<u8>> = recipe.argv.iter().map(Word::pattern).collect();
        for Nested { word, interpreter, reading, is_text } in nested(&seen(&patterns)) {
            match (reading, word) {
                (Reading::Line, Some(word)) => guard_all(&mut recipe.argv[word], &interpreter),
                (Reading::Line, None) => recipe.guarded_by = Some(interpreter.into()),
                (Reading::Code, Some(word)) if is_text && patterns[word] == [PLACE] => {
                    warnings.push(told(&interpreter))
                }
                (Reading::Code, Some(word)) => return Err(within(&shown(&recipe.argv[word], 0), &interpreter)),
                // Its user has written both: a script that evaluates its argument, and the item as that.
                (Reading::Code, None) => warnings.push(told(&interpreter)),
            }
        }
    }
    if recipe.items_are_code {
        return Ok(warnings);
    }
    for (name, value) in &mut recipe.environment {
        match read_as(name.as_encoded_bytes(), &value.pattern()) {
            Some(Reading::Code) => return Err(within(&shown(value, 0), &name.to_string_lossy())),
            Some(Reading::Line) => guard_all(value, &name.to_string_lossy()),
            None => {}
        }
    }
    if let Some(stdin) = recipe.stdin.as_ref().filter(|stdin| stdin.has_values()) {
        match reader(recipe) {
            Some(Reader { interpreter, is_direct: true }) if !recipe.shell && stdin.pattern() == [PLACE] => {
                warnings.push(told(&interpreter));
            }
            Some(Reader { interpreter, .. }) => return Err(within(&shown(stdin, 0), &interpreter)),
            None => {}
        }
    }
    Ok(warnings)
}

/// Looks at a recipe whose commands read blocks of the input. Returns what to warn of.
///
/// # Errors
/// When a block could be run as code.
pub(crate) fn vet_blocks(recipe: &Recipe) -> Result<Vec<String>, String> {
    match reader(recipe).filter(|_| !recipe.items_are_code) {
        None => Ok(Vec::new()),
        Some(Reader { interpreter, is_direct: true }) if !recipe.shell => Ok(vec![told(&interpreter)]),
        Some(Reader { interpreter, .. }) => Err(format!(
            "each block would be run as code by `{interpreter}`, which reads it (--items-are-code insists)"
        )),
    }
}

/// The interpreter that runs what a recipe's commands read, if there is one.
fn reader(recipe: &Recipe) -> Option<Reader> {
    if recipe.shell {
        let script = Script::read(&script_of(recipe));
        return script
            .commands
            .iter()
            .find_map(|command| reads_code(&command.iter().map(Seen::of).collect::<Vec<_>>()));
    }
    let patterns: Vec<Vec<u8>> = recipe.argv.iter().map(Word::pattern).collect();
    reads_code(&seen(&patterns))
}

fn vet_script(recipe: &mut Recipe, appended: usize) -> Result<(), String> {
    let script = Script::read(&script_of(recipe));
    recipe.passes_items = script.expands_arguments || script.hands_arguments_on;
    // Where each place of the script is: its word, and its number in it.
    let places: Vec<(usize, usize)> =
        (0..).zip(&recipe.argv).flat_map(|(at, word)| (0..word.places().count()).map(move |n| (at, n))).collect();
    let written = recipe.argv.len() - appended;
    for ((word, number), standing) in places.iter().zip(&script.standings) {
        if *standing != Standing::Word {
            let place = shown(&recipe.argv[*word], *number);
            return Err(match *word < written {
                true => misplaced(&place, *standing),
                false => format!(
                    "the item cannot be put behind this script, where it would be {}; say where, as `{{}}` or \"$1\"",
                    standing.described()
                ),
            });
        }
    }
    for command in &script.commands {
        let is_ours = |number: &usize| places.get(*number).is_some_and(|(word, _)| *word >= written);
        if command.first().is_some_and(|word| word.places.iter().any(is_ours)) {
            return Err("the item would be run as a command behind this script; say where it goes, as `{}` or \"$1\""
                .to_owned());
        }
        if recipe.items_are_code {
            continue;
        }
        let words: Vec<Seen<'_>> = command.iter().map(Seen::of).collect();
        for Nested { word, interpreter, reading, .. } in nested(&words) {
            let standing = word.map(|word| command[word].places.as_slice()).unwrap_or_default();
            let standing: Vec<(usize, usize)> =
                standing.iter().filter_map(|number| places.get(*number).copied()).collect();
            match (reading, standing.first()) {
                (Reading::Code, Some((at, number))) => {
                    return Err(within(&shown(&recipe.argv[*at], *number), &interpreter));
                }
                (Reading::Code, None) => return Err(evaluated(&interpreter)),
                (Reading::Line, Some(_)) => {
                    standing.iter().for_each(|(at, number)| recipe.argv[*at].guard(*number, &interpreter));
                }
                (Reading::Line, None) => recipe.guarded_by = Some(interpreter.into()),
            }
        }
    }
    if let Some(interpreter) = fed(&script).filter(|_| !recipe.items_are_code) {
        return Err(evaluated(&interpreter));
    }
    for word in script.assignments.iter().filter(|_| !recipe.items_are_code) {
        let split = word.text.iter().position(|byte| *byte == b'=').unwrap_or(word.text.len());
        let (name, value) = (&word.text[..split], &word.text[(split + 1).min(word.text.len())..]);
        let name_shown = String::from_utf8_lossy(name);
        for (at, number) in word.places.iter().filter_map(|number| places.get(*number).copied()) {
            match read_as(name, value) {
                Some(Reading::Code) => return Err(within(&shown(&recipe.argv[at], number), &name_shown)),
                Some(Reading::Line) => recipe.argv[at].guard(number, &name_shown),
                None => {}
            }
        }
    }
    Ok(())
}

/// The words of a recipe as one script, with a NUL for each place.
fn script_of(recipe: &Recipe) -> Vec<u8> {
    recipe.argv.iter().map(Word::pattern).collect::<Vec<_>>().join(&b' ')
}

fn seen(patterns: &[Vec<u8>]) -> Vec<Seen<'_>> {
    patterns.iter().map(|pattern| Seen::plain(pattern)).collect()
}

fn guard_all(word: &mut Word, interpreter: &str) {
    (0..word.places().count()).for_each(|number| word.guard(number, interpreter));
}

/// How a place is written: what stands in its braces.
fn shown(word: &Word, number: usize) -> String {
    word.places().nth(number).unwrap_or_default()
}

fn misplaced(place: &str, standing: Standing) -> String {
    let instead = match place {
        "" => "\"$1\" or \"$UNISONO_ITEM\"".to_owned(),
        number if number.parse::<usize>().is_ok() => format!("\"${{{number}}}\" or \"$UNISONO_ITEM\""),
        name => format!("\"${name}\" with --env '{name}={{{name}}}', or \"$UNISONO_ITEM\""),
    };
    format!(
        "`{{{place}}}` stands {} in the script, where an item could be run as code (in a word, outside of quotes, it is quoted for you; \
         elsewhere write {instead}, which the shell fills in)",
        standing.described()
    )
}

fn within(place: &str, interpreter: &str) -> String {
    format!(
        "`{{{place}}}` stands within code for `{interpreter}`, so an item would be run as code (give it as an argument, as in \
         `sh -c '... \"$1\"' sh {{{place}}}`, or have the code read \"$UNISONO_ITEM\"; --items-are-code insists)"
    )
}

fn evaluated(interpreter: &str) -> String {
    format!(
        "an item would be run as code by `{interpreter}` in this script (let it be a word of a command, as in `sh -c '... \"$1\"' sh {{}}`, \
         or \"$UNISONO_ITEM\", without `{interpreter}`; --items-are-code insists)"
    )
}

fn told(interpreter: &str) -> String {
    format!("each item is run as code by `{interpreter}` (--items-are-code says that it is meant)")
}

impl Standing {
    fn described(self) -> &'static str {
        match self {
            Self::Word => "in a word",
            Self::SingleQuotes => "in single quotes",
            Self::DoubleQuotes => "in double quotes",
            Self::Backquotes => "in backquotes",
            Self::HereDocument => "in a here-document",
            Self::Arithmetic => "in an arithmetic expression",
            Self::Expansion => "in a parameter expansion",
            Self::Escaped => "behind a backslash or a dollar sign",
            Self::Comment => "in a comment",
            Self::Unclear => "behind something that shells read differently",
        }
    }
}

const ITEM: &[u8] = b"UNISONO_ITEM";

#[cfg(test)]
mod tests {
    use std::{ffi::OsString, path::Path, process::Command, sync::Arc};

    use proptest::prelude::*;

    use super::*;
    use crate::each::{EachCall, Grammar, Places, Values};

    fn recipe(argv: &[&str], shell: bool) -> Recipe {
        let word = |text: &&str| Grammar::default().word(&OsString::from(text));
        Recipe { argv: argv.iter().map(word).collect(), shell, ..Recipe::default() }
    }

    fn refusal(script: &str) -> Option<String> {
        vet(&mut recipe(&[script], true), 0).err()
    }

    #[test]
    fn a_place_is_refused_wherever_a_quote_would_not_begin_a_quoted_word() {
        for script in [
            "echo \"{}\"",
            "echo '{}'",
            "echo \"a'{}'\"",
            "cat <<E\n{}\nE",
            "cat <<'E'\n{}\nE\n",
            "cat <<-E\n\t{}\n\tE",
            "cat <<{}",
            "cat << \"{}\"\n",
            "echo `echo {}`",
            "echo $(( {} + 1 ))",
            "echo ${x:-{}}",
            "echo \\{}",
            "echo ${}",
            "echo \"${}\"",
            "# {}",
            "echo a;# {}",
            "echo $'{}'",
            "echo \"$(echo \"{}\")\"",
            "echo $[{}]",
            "((x={}))",
            "x=$(case a in a) echo {};; esac)",
            "echo \"$(case a in a) echo \"{}\";; esac)\"",
            "alias q=x; {}",
            "echo \"${x#'\"'}\" {}",
            "echo $\\\n'{}'",
            "echo $\\\n{}",
            "[[ a =~ # ]]; echo {}",
            "a[ b]=1 {}",
            "cat <<E \"\n\" {}",
            "echo $(cat <<E) {}\nE",
        ] {
            assert!(refusal(script).is_some(), "{script}");
        }
        for script in [
            "echo {}",
            "echo a{}b'c'\"d\"",
            "echo 'a' {}",
            "echo \"$(cat {})\"",
            "x={}; echo \"$x\"",
            "echo a#{}",
            "echo $# {}",
            "cat > {} <<E\nbody $x $(date +%s)\nE\nrm {}",
            "cat <<'E'\n'\"`\nE\necho {}",
            "case {} in a|{}) echo {};; esac",
            "echo ${x%.*} $((1 + 2)) $? {}",
            "for i in {} a; do echo \"$i\"; done",
            "if test -f {}; then rm {}; fi",
            "f() { echo {}; }; f",
            "echo \\\n {}",
            "(cd {} && ls) >{} 2>&1",
            "diff <(sort {}) {}",
            "# it's a comment\necho {}",
            "[ {} = a ]",
        ] {
            assert_eq!(refusal(script), None, "{script}");
        }
    }

    #[test]
    fn a_place_within_code_for_an_interpreter_is_refused_and_insisting_allows_it() {
        for (argv, shell) in [
            (vec!["sh", "-c", "echo {}"], false),
            (vec!["sudo", "-u", "x", "bash", "-ic", "echo \"{}\""], false),
            (vec!["python3", "-c", "print('{}')"], false),
            (vec!["sh -c {}"], true),
            (vec!["x=1 sudo sh -c 'echo '{} >log"], true),
            (vec!["eval {}"], true),
            (vec!["echo a | xargs -I @ sh -c {}"], true),
            (vec!["[[ {} -eq 1 ]]"], true),
            (vec!["command eval {}"], true),
            (vec!["builtin eval echo {}"], true),
            (vec!["\"$SHELL\" -c {}"], true),
            (vec!["${X} -ec {}"], true),
            (vec!["eval \"$1\""], true),
            (vec!["echo {} | sh"], true),
            (vec!["echo {} |\n tee log | bash -s"], true),
            (vec!["{ echo a; echo {}; } | sh"], true),
            (vec!["(cd x; cat {}) | ssh host"], true),
            (vec!["sh <<E\n$1\nE"], true),
            (vec!["bash <<< {}"], true),
            (vec!["psql db <<E\nselect '$UNISONO_ITEM'\nE"], true),
            (vec!["sh -c \"$(echo {})\""], true),
            (vec!["eval \"$(printf %s $1)\""], true),
            (vec!["sh -c \"$UNISONO_ITEM\""], true),
            (vec!["sh -c \"echo $1\""], true),
            (vec!["find . -exec bash -c \"x $1\" \\;"], true),
            (vec!["env", "BASH_ENV={}", "bash", "x"], false),
            (vec!["perl", "-M{}", "-e", "1"], false),
        ] {
            let mut recipe = recipe(&argv, shell);
            assert!(vet(&mut recipe, 0).unwrap_err().contains("--items-are-code"), "{argv:?}");
            recipe.items_are_code = true;
            assert_eq!(vet(&mut recipe, 0), Ok(Vec::new()), "{argv:?}");
        }
        for argv in [
            &["sh", "-c", "{}"][..],
            &["sh", "-c", "eval \"$1\"", "sh", "{}"],
            &["bash", "-c", "bash <<<\"$1\"", "b", "{}"],
            &["sh", "-c", "echo \"$UNISONO_ITEM\" | sh"],
        ] {
            assert_eq!(vet(&mut recipe(argv, false), 0).unwrap().len(), 1, "{argv:?}");
        }
        let reading = |stdin: &str, argv: &[&str], shell| {
            let stdin = Some(Grammar::default().word(&stdin.into()));
            vet(&mut Recipe { stdin, ..recipe(argv, shell) }, 0)
        };
        assert!(reading("echo {}", &["sh"], false).is_err());
        assert_eq!(reading("{}", &["sh"], false).unwrap().len(), 1);
        assert!(reading("{}", &["xargs", "-I@", "sh", "-c", "@"], false).is_err());
        assert!(reading("{}", &["cat | sh"], true).is_err());
        assert_eq!(reading("{}", &["cat"], false), Ok(Vec::new()));
    }

    #[test]
    fn a_variable_that_is_code_holds_no_item_and_one_that_is_a_line_only_what_is_harmless() {
        let environment = |name: &str, value: &str| {
            let value = Grammar::default().word(&value.into());
            vet(&mut Recipe { environment: vec![(name.into(), value)], ..recipe(&["true"], false) }, 0)
        };
        for (name, value) in [("BASH_ENV", "{}"), ("LD_PRELOAD", "/x/{}.so"), ("PERL5OPT", "-M{}"), ("PAGER", "{} -x")]
        {
            assert!(environment(name, value).is_err(), "{name}");
            let script = format!("{name}={} bash -c :", value.replace(' ', "\\ "));
            assert!(refusal(&script).is_some(), "{script}");
            assert!(vet(&mut recipe(&["env", &format!("{name}={value}"), "true"], false), 0).is_err());
        }
        for (name, value) in [("PATH", "{}:/bin"), ("GIT_SSH_COMMAND", "ssh -i {}"), ("X", "{}"), ("BASH_ENV", "/x")] {
            assert_eq!(environment(name, value), Ok(Vec::new()), "{name}");
        }
    }

    #[test]
    fn what_another_host_would_run_is_refused_by_its_item() {
        for (argv, shell) in [(vec!["ssh", "host", "rm", "{}"], false), (vec!["ssh host rm {}"], true)] {
            let mut recipe = recipe(&argv, shell);
            assert_eq!(vet(&mut recipe, 0), Ok(Vec::new()));
            let recipe = Arc::new(recipe);
            let call = |item: &str| {
                let values = Values { positions: vec![item.into()], ..Values::default() };
                EachCall::new(recipe.clone(), values, None)
            };
            assert!(call("web-1.2/ä").is_ok());
            for item in ["a b", "$(x)", "a;b", "`x`", "a\nb", "~x", "*", "", "a'b", "=x"] {
                assert!(call(item).unwrap_err().contains("`ssh`"), "{item:?}");
            }
        }
    }

    #[test]
    fn nothing_is_put_behind_a_script_where_it_would_be_run() {
        for script in ["cd x;", "true &&", "echo a #", "cat <<E\nE", "if true; then", "echo '"] {
            assert!(vet(&mut recipe(&[script, "{}"], true), 1).is_err(), "{script}");
        }
        for script in ["echo", "x=1 echo a |\ncat", "time ls -l"] {
            assert!(vet(&mut recipe(&[script, "{}"], true), 1).is_ok(), "{script}");
        }
    }

    fn items() -> impl Strategy<Value = Vec<u8>> {
        let pieces = [
            "'",
            "\"",
            "`",
            "$",
            "(",
            ")",
            "\\",
            "\n",
            " ",
            ";",
            "|",
            "#",
            "E",
            "\nE\n",
            "{",
            "}",
            "*",
            "~",
            "\u{ff}",
            "a",
            "=",
            "echo x >>\"$PWNED\"",
            "$(echo x >>\"$PWNED\")",
            "`echo x >>\"$PWNED\"`",
            "\n echo x >>\"$PWNED\"\n",
        ];
        let piece = prop_oneof![
            8 => prop::sample::select(pieces.to_vec()).prop_map(|text| text.as_bytes().to_vec()),
            1 => prop::collection::vec(1u8.., 1..3),
        ];
        prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
    }

    /// Scripts that are whole: places in every context that there is, in each other and side by side.
    fn whole_scripts() -> impl Strategy<Value = String> {
        let leaf = prop::sample::select(vec!["emit =={}==", "emit =={}==", "emit a{}", "echo b", "emit \"=={}==\""]);
        let contexts = [
            "echo \"@\"",
            "echo `@`",
            "echo \"`@`\"",
            "echo $(@)",
            "echo \"$(@)\"",
            "echo '@'",
            "cat <<E\n@\nE\n",
            "cat <<'E'\n@\nE\n",
            "cat <<-E\n\t$(@)\n\tE\n",
            "# @\n",
            "(@)",
            "x=$(case a in a) @;; esac)",
            "echo \"$(case a in a) @;; esac)\"",
            ": ${x:-@}",
            ": $((@))",
            "if true; then @; fi",
            "f() { @; }; f",
            "{ @; } >>log",
            "case x in x) @;; esac",
            "@ | cat",
            "@ && true",
            "echo \\@",
            "@ <<E\ntext\nE\n",
            "echo $'@'",
            "eval @",
            "sh -c @",
        ];
        let context = prop::sample::select(contexts.to_vec());
        let parted = prop::sample::select(vec!["; ", "\n", " ", ""]);
        leaf.prop_map(str::to_owned).prop_recursive(4, 8, 2, move |inner| {
            prop_oneof![
                3 => (context.clone(), inner.clone()).prop_map(|(context, inner)| context.replace('@', &inner)),
                1 => (inner.clone(), parted.clone(), inner).prop_map(|(first, parted, second)| first + parted + &second),
            ]
        })
    }

    fn scripts() -> impl Strategy<Value = String> {
        let fragments = [
            "emit =={}==",
            "emit =={}==",
            "emit \"=={}==\"",
            "emit =={}== ",
            "{}",
            "'",
            "\"",
            "`",
            "$(",
            ")",
            "((",
            "$((",
            "))",
            "(",
            "{",
            "}",
            "${x:-",
            "${x}",
            "${x#",
            "<<E",
            "<<'E'",
            "<<-E",
            "<<\\E",
            "E",
            "E\n",
            "\n",
            "\n",
            "\nE\n",
            "\\",
            "\\\n",
            "#",
            " ",
            " ",
            ";",
            "|",
            "&&",
            "<",
            "<<<",
            "case x in",
            " x)",
            ";;",
            " esac ",
            "a=",
            "$",
            "$'",
            "\"$",
            "cat ",
            "echo ",
            "\t",
            "[[ ",
            " ]]",
            "a[",
            "alias ",
            "in",
            "\"$(",
            ")\"",
            "$((1<<2))",
            "1",
            "if true; then ",
            "; fi",
            "<(",
            "=~ ",
        ];
        let pieces =
            prop::collection::vec(prop::sample::select(fragments.to_vec()), 1..10).prop_map(|pieces| pieces.concat());
        prop_oneof![1 => pieces, 2 => whole_scripts()]
    }

    /// Runs a script with an item in the shells that are there. Returns what its `emit`s were given.
    fn emitted(script: &str, item: &[u8], folder: &Path) -> Option<Vec<Vec<u8>>> {
        let mut recipe = recipe(&["emit() { printf '%s\\0' \"$1\" >>\"$OUT\"; }\n", script], true);
        vet(&mut recipe, 0).ok()?;
        let call = EachCall {
            recipe: Arc::new(recipe),
            values: Values { positions: vec![item.to_vec()], ..Values::default() },
            block: None,
            limit_key: "".into(),
        };
        let argv = call.argv(Places::default()).ok()?;
        let mut records = Vec::new();
        for shell in ["sh", "dash", "bash"] {
            let (out, pwned, inside) = (folder.join("out"), folder.join("pwned"), folder.join("in"));
            std::fs::create_dir_all(&inside).unwrap();
            std::fs::write(&out, "").unwrap();
            let mut command = Command::new(shell);
            command
                .args(&argv[1..])
                .current_dir(&inside)
                .env("OUT", &out)
                .env("PWNED", &pwned)
                .env("PATH", "/usr/bin:/bin");
            if command.stdin(std::process::Stdio::null()).output().is_err() {
                // This shell is not there; `sh` always is.
                assert_ne!(shell, "sh");
                continue;
            }
            assert!(!pwned.exists(), "{shell} ran the item {:?} of {script:?}", String::from_utf8_lossy(item));
            records.extend(std::fs::read(&out).unwrap().split(|byte| *byte == 0).map(<[u8]>::to_vec));
        }
        Some(records)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: CASES, max_shrink_iters: 2_000, ..ProptestConfig::default() })]

        #[test]
        fn no_shell_ever_runs_an_item_of_a_script_that_is_allowed(script in scripts(), item in items()) {
            let folder = tempfile::tempdir().unwrap();
            for record in emitted(&script, &item, folder.path()).unwrap_or_default() {
                // What stands behind the place may be anything; the item itself is exact.
                let whole = [b"==".as_slice(), &item, b"=="].concat();
                prop_assert!(!record.starts_with(b"==") || record.starts_with(&whole), "{script:?} {:?}", record);
            }
        }

    }

    proptest! {
        // Each of them starts nine processes.
        #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

        #[test]
        fn an_item_reaches_a_script_as_its_argument_byte_by_byte(item in items()) {
            let folder = tempfile::tempdir().unwrap();
            let script = "emit \"$1\"; sh -c 'printf \"%s\\0\" \"$1\" >>\"$OUT\"' sh {}; (emit \"$(printf %s. {})\")";
            let records = emitted(script, &item, folder.path()).unwrap();
            let with_dot = [item.as_slice(), b"."].concat();
            for (at, record) in records.iter().filter(|record| !record.is_empty() || item.is_empty()).enumerate() {
                prop_assert!(*record == item || *record == with_dot, "{at} {record:?}");
            }
            prop_assert!(records.len() >= 4, "nothing was run");
        }

    }

    proptest! {
        #[test]
        fn any_bytes_have_a_standing_for_each_place(text in prop::collection::vec(prop_oneof![
            any::<u8>(), prop::sample::select(b"\0\0'\"`$(){}<>\\\n #E".to_vec())], 0..200)) {
            let script = Script::read(&text);
            prop_assert_eq!(script.standings.len(), text.iter().filter(|byte| **byte == PLACE).count());
            // What comes later changes nothing about what stands before.
            for cut in [text.len() / 2, text.len().saturating_sub(1)] {
                let part = Script::read(&text[..cut]);
                let known = script.standings.iter().zip(&part.standings).filter(|(whole, _)| **whole == Standing::Word);
                prop_assert!(known.into_iter().all(|(_, part)| *part == Standing::Word), "{:?}", cut);
            }
        }
    }

    /// Most scripts are refused, which takes no time.
    const CASES: u32 = 600;
}
