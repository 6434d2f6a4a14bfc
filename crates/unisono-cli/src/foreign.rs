//! Words of other programs, and what to type instead of them: what comes to the fingers of people who know curl, wget,
//! aria2, xargs, GNU parallel or sha256sum.
//!
//! A word that two of these programs use for different things says both. One that has nothing here to be told of is not
//! in the table: a guess that leads astray is worse than none. Words that are options of ours are not here either,
//! whatever they mean elsewhere.

/// What to type instead of an option, as it was typed (`--tries`, `-t`, `-nc`), of this command of ours.
pub fn tip(command: &str, word: &str) -> Option<&'static str> {
    let table = OPTIONS.iter().filter(|(ours, _)| ours.split(' ').any(|ours| ours == command));
    let mut rows = table.flat_map(|(_, rows)| rows.iter());
    rows.find_map(|(words, tip)| words.split_ascii_whitespace().any(|theirs| theirs == word).then_some(*tip))
}

/// Which command of ours a word stands for that is none.
pub fn command(word: &str) -> Option<&'static str> {
    if word.contains("://") {
        return Some("unisono fetch URL");
    }
    let word = word.to_ascii_lowercase();
    let named = |(words, _): &&(&str, &str)| words.split_ascii_whitespace().any(|theirs| theirs == word);
    COMMANDS.iter().find(named).map(|(_, ours)| *ours)
}

const COMMANDS: &[(&str, &str)] = &[
    ("aria2c curl download get http https httpie post put request url wget", "unisono fetch URL"),
    ("apply exec foreach map parallel run sh shell xargs", "unisono each -- COMMAND"),
    ("b2sum b3sum check checksum digest hash hashdeep md5sum sha1sum sha256sum sha512sum verify", "unisono sum PATH"),
    ("complete completion", "unisono completions SHELL"),
    ("man manual", "unisono completions man"),
    ("version", "unisono --version"),
    ("diagnose info limits status", "unisono doctor"),
    ("dumb-init tini", "unisono init -- COMMAND"),
    ("example test try", "unisono demo"),
];

/// The options of other programs by the commands in which they are typed.
type Rows = &'static [(&'static str, &'static str)];

const OPTIONS: &[(&str, Rows)] =
    &[("fetch", FETCH), ("each", EACH), ("sum", SUM), ("fetch each", ORDERED), ("fetch each sum", ALL)];

const FETCH: Rows = &[
    // How often and how long.
    ("--tries --max-tries -t", "`--retries N` counts repeats: 45 tries are `--retries 44`"),
    (
        "--retry-all-errors --retry-connrefused --retry-on-http-error",
        "`--retries N` repeats all that may be repeated: leave it out",
    ),
    (
        "--retry-delay --retry-wait --retry-max-time --waitretry",
        "waits grow by themselves and heed `Retry-After`; `--deadline TIME` bounds an item with its waits",
    ),
    ("--max-time", "`--deadline TIME` bounds an item with its retries, `--timeout TIME` each attempt"),
    ("--read-timeout --dns-timeout", "`--timeout TIME` bounds an attempt, `--connect-timeout TIME` its connection"),
    ("-m", "`--deadline TIME` bounds an item, as `-m` of curl; links in pages are not followed, as `-m` of wget does"),
    ("-T", "`-X PUT --data @FILE` sends a file, as `-T` of curl; `--timeout TIME` is `-T` of wget"),
    ("--wait --random-wait", "`--per-host-rate 1/s` bounds how often each host is asked"),
    ("-w --write-out", "each outcome has its status, times and sizes; `--per-host-rate 1/s` waits, as `-w` of wget"),
    ("--speed-limit --speed-time -y -Y --lowest-speed-limit", "`--min-throughput SIZE` gives up what comes in slower"),
    (
        "--limit-rate --max-download-limit --max-overall-download-limit",
        "how fast bodies come is not bounded; `--rate` and `--limit` bound requests",
    ),
    // How many at once.
    ("-Z --parallel", "requests run at once already (`--limit N` says how many): leave it out"),
    ("--parallel-max --max-concurrent-downloads", "`--limit N` (`-j N`) says how many run at once"),
    ("--max-connection-per-server", "`--per-host N` says how many run at once for each host"),
    ("-x", "`--proxy URL`, as `-x` of curl; `--per-host N`, as `-x` of aria2"),
    (
        "--split --min-split-size",
        "a body comes in one piece: each URL is one request, and `--per-host N` bounds those at once",
    ),
    // Where to.
    (
        "-O --remote-name --remote-name-all -J --remote-header-name --output-document --content-disposition --output",
        "`--save FILE` writes a body to a file, and for many with a column of --from: `--save 'out/{name}.html'`; \
         `--out FILE` has outcomes, and is standard output by default",
    ),
    (
        "-P --directory-prefix --dir --output-dir -nd --no-directories -nH --no-host-directories --force-directories --cut-dirs",
        "`--save 'FOLDER/{name}'` says where bodies go, with a column of --from for each",
    ),
    ("-nc --no-clobber", "a file that is there is never replaced without `--overwrite`: leave it out"),
    ("--allow-overwrite", "`--overwrite` replaces files that are there"),
    ("--create-dirs", "the folders of `--save` are made: leave it out"),
    ("--save-session", "`-o FILE --resume` keeps what is done, and goes on with the rest"),
    ("-C --continue --continue-at", "`-o FILE --resume` goes on with a run; a body that broke off is fetched whole"),
    (
        "-c",
        "`-o FILE --resume` goes on with a run, as `-c` of wget and aria2; `--cookies` keeps cookies, as `-c` of curl",
    ),
    // What is asked for.
    ("-i", "`--from FILE` reads URLs, as `-i` of wget and aria2; `--include-headers` writes headers, as `-i` of curl"),
    ("--input-file", "`--from FILE` reads URLs, one per line"),
    ("--url", "URLs stand for themselves: leave the word `--url` out"),
    ("-K --config --config-file", "`--from FILE.jsonl` says for each request what is its own"),
    ("-I --head --spider", "`-X HEAD --include-headers` asks for headers alone"),
    ("--request", "`--method METHOD` (`-X`) is the method"),
    ("-G --get", "parameters stand in the URL, or in `params` of a row of --from FILE.jsonl"),
    (
        "-d --data-ascii --post-data --body-data",
        "`--data TEXT` is the body, or `--json JSON`; of a form it is with -H 'Content-Type: application/x-www-form-urlencoded'",
    ),
    ("--data-raw", "`--data TEXT` is the body"),
    ("--data-binary --post-file --body-file", "`--data @FILE` reads the body from a file, as it is"),
    ("--data-urlencode", "`--data TEXT` is the body as it is: give it percent-encoded"),
    (
        "-F --form --form-string",
        "forms with files are not put together here: `--data @FILE` sends a body that is whole",
    ),
    ("--upload-file", "`-X PUT --data @FILE` sends a file"),
    (
        "-r",
        "`-H 'Range: bytes=0-99'` asks for a part, as `-r` of curl; links in pages are not followed, as `-r` of wget does",
    ),
    ("--range", "`-H 'Range: bytes=0-99'` asks for a part"),
    ("-z --time-cond", "`-H 'If-Modified-Since: DATE'` asks for what is newer"),
    ("--user-agent", "`-H 'User-Agent: TEXT'` says what asks"),
    ("-A", "`-H 'User-Agent: TEXT'`, as `-A` of curl; links in pages are not followed, as wget does"),
    ("-e --referer --referrer", "`-H 'Referer: URL'` says where from"),
    ("-b --cookie", "`-H 'Cookie: NAME=VALUE'` sends one; `--cookies` keeps those that servers set"),
    (
        "--cookie-jar --save-cookies --load-cookies --keep-session-cookies",
        "`--cookies` keeps cookies for this run, in no file; `-H 'Cookie: NAME=VALUE'` sends one",
    ),
    ("--compressed --compression", "compressed bodies are asked for and decoded already: leave it out"),
    // Who asks.
    (
        "-u --http-user --http-password --http-passwd --password --use-askpass --basic --auth",
        "`--user NAME:PASSWORD` logs in",
    ),
    (
        "-U",
        "`--proxy http://NAME:PASSWORD@HOST:PORT` logs in to a proxy, as `-U` of curl; `-H 'User-Agent: TEXT'` is `-U` of wget",
    ),
    ("--proxy-user --proxy-password --proxy-passwd", "`--proxy http://NAME:PASSWORD@HOST:PORT` logs in to a proxy"),
    (
        "--oauth2-bearer",
        "`--bearer-env VARIABLE` takes a token from the environment, `--token-command COMMAND` from a program",
    ),
    ("-n --netrc-optional", "`--netrc` reads names and passwords from ~/.netrc"),
    ("--netrc-file --netrc-path", "`--netrc=FILE` reads names and passwords"),
    (
        "--anyauth --digest --ntlm --negotiate",
        "no more than Basic (`--user`), bearer tokens (`--bearer-env`) and headers (`-H`) are sent",
    ),
    // How to get there.
    ("--no-check-certificate --check-certificate", "`--insecure` trusts any certificate; for tests only"),
    ("--ca-certificate", "`--cacert FILE` trusts these certificates"),
    ("-E --certificate", "`--cert FILE` is our certificate"),
    ("--key --private-key", "`--cert-key FILE` is the key of --cert"),
    (
        "--all-proxy --http-proxy --https-proxy --socks5 --socks5-hostname --proxytunnel",
        "`--proxy URL` is for everything: http, https, socks5 or socks5h",
    ),
    ("--no-proxy", "`--proxy ''` is none, `--noproxy LIST` for some hosts"),
    ("--connect-to", "`--resolve HOST:PORT:ADDRESS` says where a host is"),
    ("--http1.1", "`--http1` is HTTP/1.1 alone"),
    ("--http2-prior-knowledge", "`--http2` is HTTP/2 alone; without TLS by prior knowledge"),
    ("--inet4-only", "`--ipv4` is IPv4 alone"),
    ("--inet6-only", "`--ipv6` is IPv6 alone"),
    (
        "--ftp-ssl --ftp-account --ftp-user --ftp-passwd --ftp-pasv --ftp-create-dirs",
        "http and https are fetched, and nothing else",
    ),
    // What comes back.
    ("-L --location", "redirects are followed already: leave it out (`--max-redirects 0` takes them for the answer)"),
    ("--max-redirs --max-redirect", "`--max-redirects N` is how many are followed"),
    (
        "-f --fail --fail-with-body",
        "a status that is no success fails its row already: leave it out (`--expect` says which are one)",
    ),
    ("--fail-early", "`--max-failures 1` stops at the first"),
    ("--max-filesize", "`--max-body SIZE` is the most that a body may have"),
    (
        "-D --dump-header --save-headers --include --server-response",
        "`--include-headers` writes the headers of answers into their outcomes",
    ),
    ("-S", "errors are shown already, as with `-S` of curl; `--include-headers` writes headers, as `-S` of wget"),
    ("--checksum", "`unisono sum --check FILE` checks what was saved"),
    (
        "--recursive --mirror -p --page-requisites --convert-links --backup-converted --adjust-extension --no-parent -np \
         --level --accept --reject --span-hosts --domains --force-html --base",
        "links in pages are not followed: give the URLs, or a file of them with `--from FILE`",
    ),
    // What is shown.
    (
        "-s --silent",
        "`--quiet` shows errors alone, as `-s` of curl; to `-s` of aria2: each URL is one request, and `--per-host N` bounds those at once",
    ),
    ("--show-error", "errors are shown already: leave it out"),
    (
        "--trace --trace-ascii --trace-time --debug",
        "`--verbose` shows each retry; `--include-headers` writes the headers of answers",
    ),
];

const EACH: Rows = &[
    ("-P --max-procs --parallel", "`--limit N` (`-j N`) says how many run at once"),
    (
        "-n --max-args --max-replace-args -N -L --max-lines",
        "each command gets one item: a line, whose columns `--colsep ' '` parts into {1} {2}",
    ),
    ("-m -X --xargs -s --max-chars", "each command gets one item, and no more are put together: leave it out"),
    ("-l", "one line is one item: leave it out"),
    ("-a --arg-file", "`--from FILE` reads items, one per line"),
    ("-d --delimiter", "items end with a line, or with NUL and `--null`: `tr , '\\n' | unisono each -- COMMAND`"),
    ("-E -e --eof", "the input is read to its end: leave it out"),
    ("-i --replace", "`{}` stands for the item already, and `-I TEXT` takes another word for it: leave it out"),
    ("-t", "`--dry-run` shows the commands and starts none; `--tag` puts the item before each line"),
    ("-p --interactive", "`--dry-run` shows the commands and starts none; then the same line without it runs them"),
    ("-r --no-run-if-empty", "without items nothing is run: leave it out"),
    ("-x --exit", "a command that is too long fails by itself: leave it out"),
    ("--open-tty", "`--tty` lends the terminal to one command at a time"),
    ("--show-limits", "`unisono doctor` says what limits a run"),
    ("--process-slot-var", "`{%}` is the number of the slot, as in `--env SLOT={%}`"),
    ("--dryrun", "`--dry-run` shows the commands and starts none"),
    ("--joblog", "`-o FILE` writes one line of JSON per item"),
    ("--results --files --outputasfiles", "`--save 'out/{#}'` keeps what each command prints"),
    ("--resume-failed", "`-o FILE --retry-failed` runs again what failed"),
    ("--tagstring", "`--tag` puts the item before each line"),
    ("--lb --linebuffer", "`--line-buffer` prints whole lines as they come"),
    ("-u", "`--ungroup` lets commands print as they like"),
    ("--group", "output is grouped by item already: leave it out"),
    ("--quote", "items are never code: leave it out"),
    ("--header", "`--from FILE.csv` reads columns by name, as `{name}`"),
    ("--halt-on-error", "`--halt now,fail=1` or `--halt soon,fail=1` stops at the first"),
    ("--memfree", "`--min-memory SIZE` starts nothing while less is available"),
    ("--wd --workdir", "`--cwd FOLDER` is where commands run"),
    (
        "-S --sshlogin --sshloginfile --slf --transfer --transferfile --return --trc --onall --nonall",
        "commands run here: `unisono each --from hosts -- ssh {} COMMAND`",
    ),
    ("--match", "`--colsep REGEX` parts an item into {1} {2}"),
    ("--link --xapply", "`:::+` links items to the source before: `::: a b :::+ 1 2`"),
    ("--shuf", "the order is that of the input: `shuf FILE | unisono each -- COMMAND`"),
    (
        "--recstart --recend --pipepart --pipe-part",
        "`--pipe` gives blocks of whole lines, by `--block SIZE` or `--lines N`",
    ),
    ("--no-notice --will-cite --citation --bibtex", "there is no notice: leave it out"),
    ("--nice", "`nice unisono each -- COMMAND` is for it and all that it starts"),
    ("--verbatim", "items are taken as they are: leave it out"),
    ("--max-time", "`--timeout TIME` bounds each attempt, `--deadline TIME` an item with its retries"),
    ("-c", "`--shell` runs the command as a script: `unisono each --shell 'COMMAND {}'`"),
    ("--tries", "`--retries N` counts repeats: 3 tries are `--retries 2`"),
];

const SUM: Rows = &[
    ("-b --binary -t --text", "files are read as they are: leave it out"),
    ("-w --warn", "lines that are no entries are told of already: leave it out"),
    ("-r --recursive", "a folder stands for all that is in it: leave it out"),
    ("--num-threads", "`--limit N` (`-j N`) says how many are read at once"),
    ("--md5 --sha1 --sha256 --sha512 --blake3 --blake2b", "`--algorithm NAME` (`-a`) says which digest"),
    ("--max-time", "`--deadline TIME` bounds each file"),
    ("--include", "`--glob GLOB` takes files that match alone"),
    ("--timeout", "`--deadline TIME` bounds each file"),
];

/// Where outcomes come as they are done.
const ORDERED: Rows = &[("--ordered --keeporder", "`--keep-order` (`-k`) writes outcomes in the order of the input")];

/// In any of the three, where the command itself says nothing else.
const ALL: Rows = &[
    ("--retry", "`--retries N` is how often a failed attempt is repeated"),
    (
        "--concurrency --jobs --threads --workers --max-workers --connections",
        "`--limit N` (`-j N`) says how many run at once",
    ),
    ("--output --output-file --outfile", "`--out FILE` (`-o FILE`) writes outcomes"),
    ("--input --file --files-from", "`--from FILE` reads what there is to do, and `-` is standard input"),
    ("--log --logfile --log-file", "messages are on standard error: `2>FILE`"),
    ("--force", "`--overwrite` replaces what is there"),
    ("--continue", "`-o FILE --resume` goes on with a run"),
    ("-# --bar --progress-bar --show-progress --eta", "`--progress bar` shows one"),
    ("--no-progress-meter --no-progress", "`--progress none` shows none"),
    ("--no-verbose -nv", "`--quiet` (`-q`) shows errors alone"),
    ("--colour --colours --colors", "`--color WHEN` is for colours"),
    ("--ratelimit --rate-limit --rps --qps", "`--rate 100/s` bounds how many start"),
];

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn no_word_of_another_program_is_one_of_ours_and_every_tip_names_options_that_there_are() {
        let mut cli = Cli::command();
        cli.build();
        for (commands, rows) in OPTIONS {
            for name in commands.split(' ') {
                let command = cli.find_subcommand(name).expect("a command of ours");
                let is_ours = |word: &str| {
                    command.get_arguments().any(|arg| match word.strip_prefix("--") {
                        Some(long) => arg.get_long() == Some(long),
                        None => arg.get_short().is_some_and(|short| word == format!("-{short}")),
                    })
                };
                for (words, tip) in *rows {
                    for word in words.split_ascii_whitespace() {
                        assert!(word.starts_with('-'), "{word}");
                        assert!(!is_ours(word), "{name} has {word}");
                        assert!(super::tip(name, word) == Some(*tip) || commands.contains(' '), "{name}: {word} twice");
                    }
                    // Those in a line of another command are its own.
                    if tip.contains("unisono ") {
                        continue;
                    }
                    for word in tip.split([' ', '`', '=', ',', ':', ';', ')', '(']).filter(|word| word.len() > 2) {
                        let is_option = word.starts_with("--");
                        assert!(!is_option || is_ours(word) || words.contains(word), "{name}: {word} in {tip}");
                    }
                }
            }
        }
        for (_, ours) in COMMANDS {
            let word = ours.split(' ').nth(1).unwrap();
            assert!(word.starts_with("--") || cli.find_subcommand(word).is_some(), "{ours}");
        }
    }
}
