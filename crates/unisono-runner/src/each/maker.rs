//! Items become calls: those of arguments in all their combinations, those of a file row by row, those of a stream block
//! by block.

use std::{
    cell::RefCell,
    io::{BufRead, BufReader, Read},
    path::Path,
    rc::Rc,
    sync::Arc,
};

use tokio::sync::mpsc;

use super::{
    call::{EachCall, Recipe},
    recipe::{Values, Word},
};
use crate::{
    Error,
    input::{Batch, Batcher, Stopped, on_thread, open},
    row::{Fields, Maker, Origin, Row},
};

/// Makes commands of rows.
#[derive(Debug, Clone)]
pub struct EachMaker {
    recipe: Arc<Recipe>,
    /// Arguments, by source; empty where rows come from a file.
    sources: Vec<Vec<Vec<u8>>>,
    /// The columns that the recipe asks for.
    columns: Vec<String>,
}

impl EachMaker {
    /// A maker for rows of a file, or for all combinations of these sources of arguments; the last source turns fastest. A
    /// recipe into which nothing of the item goes gets the item at its end.
    ///
    /// # Errors
    /// When the recipe asks for a source that there is not.
    pub fn new(mut recipe: Recipe, sources: Vec<Vec<Vec<u8>>>) -> Result<Self, String> {
        let parts = |recipe: &Recipe| -> Vec<Word> {
            let words = recipe.argv.iter().chain(&recipe.folder).chain(&recipe.stdin).chain(&recipe.save);
            words.chain(recipe.environment.iter().map(|(_, value)| value)).chain(&recipe.limit_key).cloned().collect()
        };
        let is_filled = recipe.argv.iter().chain(&recipe.stdin).any(Word::has_values);
        if !is_filled {
            match sources.len() {
                0 => recipe.argv.push(Word::item()),
                count => recipe.argv.extend((0..count).map(Word::position)),
            }
        }
        let words = parts(&recipe);
        let most = words.iter().flat_map(Word::positions).max();
        if let Some(at) = most.filter(|at| *at >= sources.len().max(1)) {
            return Err(format!("`{{{}}}` asks for a source of items that is not there", at + 1));
        }
        let mut columns: Vec<String> = words.iter().flat_map(Word::columns).map(str::to_owned).collect();
        columns.sort_unstable();
        columns.dedup();
        Ok(Self { recipe: Arc::new(recipe), sources, columns })
    }

    /// The columns that the recipe asks for.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The call of an item that brings these values.
    ///
    /// # Errors
    /// When its command cannot be made.
    pub fn call(&self, values: Values) -> Result<EachCall, String> {
        EachCall::new(self.recipe.clone(), values, None)
    }

    fn of_fields(&self, fields: &dyn Fields) -> Result<EachCall, String> {
        let column = |name: &String| Ok((name.clone(), fields.field(name)?.as_bytes().to_vec()));
        let columns = self.columns.iter().map(column).collect::<Result<_, String>>()?;
        self.call(Values { positions: fields.line().map(<[u8]>::to_vec).into_iter().collect(), columns })
    }

    /// One of the combinations of arguments.
    fn combination(&self, mut number: u64) -> Values {
        let mut positions: Vec<Vec<u8>> = Vec::with_capacity(self.sources.len());
        for source in self.sources.iter().rev() {
            let count = source.len() as u64;
            let at = usize::try_from(number % count).expect("an index into a list fits");
            positions.push(source[at].clone());
            number /= count;
        }
        positions.reverse();
        Values { positions, columns: Vec::new() }
    }
}

impl Maker for EachMaker {
    type Call = EachCall;

    fn make(&self, fields: &dyn Fields, origin: Origin, push: &mut dyn FnMut(Row<EachCall>) -> bool) {
        if self.sources.is_empty() {
            push(Row { id: None, origin, call: self.of_fields(fields) });
            return;
        }
        for (number, line) in (0..self.combinations()).zip(1..) {
            let call = self.call(self.combination(number));
            if !push(Row { id: None, origin: Origin { line, ..origin.clone() }, call }) {
                return;
            }
        }
    }

    fn combinations(&self) -> u64 {
        self.sources.iter().map(|source| source.len() as u64).fold(1, u64::saturating_mul)
    }

    fn takes_lines_whole(&self) -> bool {
        true
    }
}

/// How a stream is cut into blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pieces {
    /// So many lines each.
    Lines(u64),
    /// Whole lines of at least so many bytes.
    Bytes(u64),
}

/// The blocks of a file, or of standard input when the path is `-`: each is read by a command of its own.
///
/// # Errors
/// When the file cannot be opened.
pub fn blocks(path: &Path, pieces: Pieces, recipe: Recipe) -> Result<mpsc::Receiver<Batch<EachCall>>, Error> {
    let (_, file) = open(path)?;
    let recipe = Arc::new(recipe);
    on_thread(move |batcher| cut(file, pieces, &recipe, batcher))
}

fn cut(
    file: impl Read,
    pieces: Pieces,
    recipe: &Arc<Recipe>,
    batcher: &Rc<RefCell<Batcher<EachCall>>>,
) -> Result<(), Stopped> {
    let mut reader = BufReader::with_capacity(1 << 16, file);
    for number in 1.. {
        let mut block = Vec::new();
        let mut lines = 0;
        let is_full = |block: &Vec<u8>, lines| match pieces {
            Pieces::Lines(most) => lines >= most,
            Pieces::Bytes(least) => block.len() as u64 >= least,
        };
        while !is_full(&block, lines) && reader.read_until(b'\n', &mut block)? > 0 {
            lines += 1;
        }
        if block.is_empty() {
            break;
        }
        let values = Values { positions: vec![format!("block {number}").into_bytes()], columns: Vec::new() };
        let call = EachCall { recipe: recipe.clone(), values, block: Some(block.into()), limit_key: "".into() };
        let mut batcher = batcher.borrow_mut();
        batcher.push(Row { id: None, origin: Origin::default(), call: Ok(call) })?;
        // A block may be large, so they are handed over one by one.
        batcher.flush()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{each::Places, row::NoFields};

    fn commands(sources: &[&[&str]], argv: &[&str]) -> Vec<Vec<String>> {
        let grammar = super::super::Grammar::default();
        let recipe = Recipe { argv: argv.iter().map(|word| grammar.word(&word.into())).collect(), ..Recipe::default() };
        let sources = sources.iter().map(|source| source.iter().map(|value| value.as_bytes().to_vec()).collect());
        let maker = EachMaker::new(recipe, sources.collect()).unwrap();
        let mut made = Vec::new();
        maker.make(&NoFields, Origin::default(), &mut |row| {
            let argv = row.call.unwrap().argv(Places::default()).unwrap();
            made.push(argv.into_iter().map(|word| word.into_string().unwrap()).collect());
            true
        });
        made
    }

    #[test]
    fn sources_are_combined_and_the_last_turns_fastest() {
        let made = commands(&[&["a", "b"], &["1", "2"]], &["echo", "{2}{1}"]);
        assert_eq!(made, [["echo", "1a"], ["echo", "2a"], ["echo", "1b"], ["echo", "2b"]]);
    }

    #[test]
    fn a_command_without_a_place_gets_the_item_at_its_end() {
        assert_eq!(commands(&[&["a b"]], &["echo"]), [["echo", "a b"]]);
        assert_eq!(commands(&[&["a"], &["b"]], &["echo"]), [["echo", "a", "b"]]);
    }

    #[test]
    fn a_source_that_is_not_there_is_refused() {
        let recipe = Recipe { argv: vec![Word::position(1)], ..Recipe::default() };
        assert!(EachMaker::new(recipe, vec![vec![b"a".to_vec()]]).unwrap_err().contains("{2}"));
    }
}
