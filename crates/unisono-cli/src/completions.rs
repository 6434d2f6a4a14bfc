//! Shell completions and the man page, from the parser itself.

use std::io::{self, Write};

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

/// Prints completions or the man page to standard output. Returns the exit status.
pub fn print(format: CompletionFormat, mut parser: Command) -> Result<u8, Failure> {
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

/// The command's page, and below it those of its subcommands, since there is only one page to install.
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
