//! `countersign completions` and `countersign man`: what a package installs beside the program.

use super::{Arguments, Failure};
use clap::CommandFactory as _;
use clap_complete::Shell;
use std::io::Write as _;
use std::process::ExitCode;

pub(super) fn completions(shell: Shell) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "countersign", &mut script);
    let _ = anstream::stdout().write_all(&script);
    ExitCode::SUCCESS
}

/// Prints the manual page of the program and its commands.
pub(super) fn man() -> Result<ExitCode, Failure> {
    let mut page = Vec::new();
    let command = Arguments::command();
    clap_mangen::Man::new(command.clone()).render(&mut page)?;
    for below in command.get_subcommands() {
        writeln!(page, ".SH \"COUNTERSIGN {}\"", below.get_name().to_uppercase())?;
        let man = clap_mangen::Man::new(below.clone().bin_name(format!("countersign {}", below.get_name())));
        man.render_synopsis_section(&mut page)?;
        man.render_description_section(&mut page)?;
        man.render_options_section(&mut page)?;
        if below.has_subcommands() {
            man.render_subcommands_section(&mut page)?;
        }
    }
    let _ = anstream::stdout().write_all(&page);
    Ok(ExitCode::SUCCESS)
}
