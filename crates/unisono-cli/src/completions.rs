//! Shell completions and man pages, from the parser itself.

use std::{
    fs,
    io::{self, Write},
    path::Path,
};

use clap::{Command, ValueEnum};
use clap_complete::Shell;

use crate::{
    failure::Failure,
    output::{self, StandardOutput},
};

/// What to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CompletionFormat {
    Bash,
    Zsh,
    Fish,
    Elvish,
    #[value(name = "powershell")]
    PowerShell,
    Man,
}

/// Prints completions or the man page to standard output, or writes a page per command into `folder`, which only pages
/// have use for. Returns the exit status.
pub fn print(format: CompletionFormat, folder: Option<&Path>, mut parser: Command) -> Result<u8, Failure> {
    if let Some(folder) = folder {
        if format != CompletionFormat::Man {
            return Err(Failure::usage(
                "--folder is for `man`: completions of a shell are one file, on standard output",
            ));
        }
        return pages(parser, folder).map(|()| 0).map_err(|error| {
            Failure::fault(format!("the man pages cannot be written to {}: {error}", folder.display()))
        });
    }
    let mut text = Vec::new();
    let shell = match format {
        CompletionFormat::Bash => Shell::Bash,
        CompletionFormat::Zsh => Shell::Zsh,
        CompletionFormat::Fish => Shell::Fish,
        CompletionFormat::Elvish => Shell::Elvish,
        CompletionFormat::PowerShell => Shell::PowerShell,
        CompletionFormat::Man => {
            man(&parser, &mut text).map_err(|error| Failure::fault(format!("the man page cannot be made: {error}")))?;
            return write(&text);
        }
    };
    clap_complete::generate(shell, &mut parser, "unisono", &mut text);
    write(&text)
}

/// `unisono.1`, `unisono-fetch.1` and so on, as packages install them.
fn pages(parser: Command, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    // In the head of each page, but no option of each command.
    let parser =
        parser.mut_subcommands(|command| command.version(env!("CARGO_PKG_VERSION")).disable_version_flag(true));
    clap_mangen::generate_to(parser, folder)
}

/// The command's page, and below it those of its subcommands, since standard output takes one page only.
fn man(parser: &Command, into: &mut Vec<u8>) -> io::Result<()> {
    clap_mangen::Man::new(parser.clone()).render(into)?;
    for subcommand in parser.get_subcommands() {
        let page = clap_mangen::Man::new(subcommand.clone());
        writeln!(into, ".SH \"UNISONO {}\"", subcommand.get_name().to_uppercase())?;
        page.render_description_section(into)?;
        page.render_options_section(into)?;
    }
    Ok(())
}

fn write(text: &[u8]) -> Result<u8, Failure> {
    let mut output = StandardOutput::open()?;
    let text = std::str::from_utf8(text).expect("what clap writes is text");
    output::ended(output.own(text).and_then(|()| output.flush()))
}
