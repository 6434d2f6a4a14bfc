//! The sources of items behind `:::` and `::::`.

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
};

use unisono_runner::Items;

use crate::failure::Failure;

/// One of the sources that are combined or linked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemSource {
    pub from: SourceFrom,
    /// It is gone through together with the one before.
    pub is_linked: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceFrom {
    /// The words behind a `:::`.
    Words(Vec<Vec<u8>>),
    /// The lines of a file behind a `::::`; of standard input for `-`.
    File(PathBuf),
}

impl ItemSource {
    /// All sources with their items. A file is read whole, since it is gone through once for each item of the sources
    /// before it.
    pub fn items(sources: Vec<Self>, delimiter: u8) -> Result<Vec<Items>, Failure> {
        let mut all: Vec<Items> = Vec::new();
        for Self { from, is_linked } in sources {
            let values = match from {
                SourceFrom::Words(words) => words,
                SourceFrom::File(path) => lines(&path, delimiter)?,
            };
            match all.last_mut().filter(|_| is_linked) {
                Some(last) => last.link(values),
                None => all.push(Items::new(values)),
            }
        }
        Ok(all)
    }

    pub fn is_standard_input(&self) -> bool {
        self.from == SourceFrom::File("-".into())
    }

    /// The file that it is read from, if it is one.
    pub fn file(&self) -> Option<PathBuf> {
        match &self.from {
            SourceFrom::File(path) if !self.is_standard_input() => Some(path.clone()),
            SourceFrom::File(_) | SourceFrom::Words(_) => None,
        }
    }
}

fn lines(path: &Path, delimiter: u8) -> Result<Vec<Vec<u8>>, Failure> {
    let text = if path == Path::new("-") {
        let mut text = Vec::new();
        io::stdin().lock().read_to_end(&mut text).map(|_| text)
    } else {
        std::fs::read(path)
    };
    let text = text.map_err(|error| Failure::usage(format!("cannot read `{}`: {error}", path.display())))?;
    let text = if delimiter == b'\n' { unisono_runner::unmarked(&text) } else { &text };
    let text = text.strip_suffix(&[delimiter]).unwrap_or(text);
    let is_empty = text.is_empty();
    Ok(text.split(|byte| *byte == delimiter).filter(|_| !is_empty).map(<[u8]>::to_vec).collect())
}
