//! The words of `unisono doctor`.

use std::path::PathBuf;

use clap::Args;

/// What to look at.
#[derive(Debug, Args)]
#[command(after_help = "Exit status:
  0 nothing here makes a run fail · 1 something surely will: its line says FAILS · 2 usage · 125 our own failure")]
pub struct DoctorArgs {
    /// Print a JSON object instead of lines
    #[arg(long)]
    pub json: bool,
    /// Look for /proc, /sys and /etc below this folder: those of a container or an image
    #[arg(long, value_name = "FOLDER", default_value = "/")]
    pub root: PathBuf,
}
