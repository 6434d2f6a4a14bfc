//! Items become calls: those of arguments in all their combinations, those of a file row by row, those of a stream
//! block by block.

use std::{
    cell::RefCell,
    io::{BufReader, Read},
    path::Path,
    rc::Rc,
    sync::Arc,
};

use tokio::sync::mpsc;

use super::{
    call::EachCall,
    columns::Separator,
    recipe::{Recipe, Values, Word},
    vetting,
};
use crate::{
    Error,
    input::{Batcher, LONGEST_ROW_BYTES, RowBatch, Stopped, on_thread, open, read_line},
    row::{LineNumber, Maker, Row, RowFields, RowOrigin, check_columns},
};

/// Makes commands of rows.
#[derive(Debug, Clone)]
pub struct EachMaker {
    recipe: Arc<Recipe>,
    /// Empty where rows come from a file.
    sources: Vec<Items>,
    /// What parts a value into several.
    separator: Option<Separator>,
    warnings: Vec<String>,
    /// The columns that the recipe asks for.
    columns: Vec<String>,
}

impl EachMaker {
    /// A maker for rows of a file, or for all combinations of these sources of items; the last source turns fastest.
    /// Where the recipe has no place at all, it gets the item at its end. With a separator, what it parts are values of
    /// their own.
    ///
    /// # Errors
    /// When the recipe asks for a source that there is not, or would run items as code.
    pub fn new(mut recipe: Recipe, sources: Vec<Items>, separator: Option<Separator>) -> Result<Self, String> {
        let words = |recipe: &Recipe| -> Vec<Word> {
            let words = recipe.argv.iter().chain(&recipe.folder).chain(&recipe.stdin);
            words.chain(recipe.environment.iter().map(|(_, value)| value)).cloned().collect()
        };
        // A number in a file's name says nothing about where the item goes; the item itself does.
        let is_filled = words(&recipe).iter().any(Word::has_places)
            || recipe.save.as_ref().is_some_and(Word::has_values)
            || recipe.keyed_by_place
            || vetting::takes_items(&recipe);
        let width = sources.iter().map(|source| source.width).sum();
        let written = recipe.argv.len();
        match width {
            _ if is_filled => {}
            _ if separator.is_some() => return Err("--colsep: say which columns go where, as `{1} {2}`".to_owned()),
            0 => recipe.argv.push(Word::item()),
            count => recipe.argv.extend((0..count).map(Word::position)),
        }
        let appended = recipe.argv.len() - written;
        let warnings = vetting::vet(&mut recipe, appended)?;
        let words: Vec<Word> =
            words(&recipe).into_iter().chain(recipe.save.clone()).chain(recipe.limit_key.clone()).collect();
        let most = words.iter().flat_map(Word::positions).max();
        if let Some(at) = most.filter(|at| separator.is_none() && *at >= width.max(1)) {
            return Err(format!("`{{{}}}` asks for a source of items that is not there", at + 1));
        }
        let mut columns: Vec<String> = words.iter().flat_map(Word::columns).map(str::to_owned).collect();
        columns.sort_unstable();
        columns.dedup();
        Ok(Self { recipe: Arc::new(recipe), sources, separator, warnings, columns })
    }

    /// What its user should know before anything starts.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
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

    fn of_fields(&self, fields: &dyn RowFields) -> Result<EachCall, String> {
        let column = |name: &String| Ok((name.clone(), fields.field(name)?.as_bytes().to_vec()));
        let columns = self.columns.iter().map(column).collect::<Result<_, String>>()?;
        let values = fields.line().into_iter().flat_map(|line| self.parted(line)).collect();
        self.call(Values { positions: values, columns })
    }

    fn parted(&self, value: &[u8]) -> Vec<Vec<u8>> {
        match &self.separator {
            None => vec![value.to_vec()],
            Some(separator) => separator.split(value),
        }
    }

    /// One of the combinations of items.
    fn combination(&self, mut number: u64) -> Values {
        let mut rows: Vec<&[Vec<u8>]> = Vec::with_capacity(self.sources.len());
        for source in self.sources.iter().rev() {
            let count = source.rows.len() as u64;
            let at = usize::try_from(number % count).expect("an index into a list fits");
            rows.push(&source.rows[at]);
            number /= count;
        }
        let positions = rows.into_iter().rev().flatten().flat_map(|value| self.parted(value)).collect();
        Values { positions, columns: Vec::new() }
    }
}

impl Maker for EachMaker {
    type Call = EachCall;

    fn make(&self, fields: &dyn RowFields, origin: RowOrigin, push: &mut dyn FnMut(Row<EachCall>) -> bool) {
        if self.sources.is_empty() {
            push(Row { id: None, origin, call: self.of_fields(fields) });
            return;
        }
        for (number, line) in (0..self.combinations()).zip(1..) {
            let call = self.call(self.combination(number));
            if !push(Row { id: None, origin: RowOrigin { line: LineNumber::new(line), ..origin.clone() }, call }) {
                return;
            }
        }
    }

    fn check(&self, first: &dyn RowFields) -> Result<(), Error> {
        check_columns(first, self.columns.iter().map(String::as_str))
    }

    fn combinations(&self) -> u64 {
        self.sources.iter().map(|source| source.rows.len() as u64).fold(1, u64::saturating_mul)
    }

    fn takes_lines_whole(&self) -> bool {
        true
    }
}

/// A source of items, and those that are linked to it.
#[derive(Debug, Clone, Default)]
pub struct Items {
    /// A value of each of the linked sources.
    rows: Vec<Vec<Vec<u8>>>,
    /// How many sources these are.
    width: usize,
}

impl Items {
    /// A source of its own.
    pub fn new(values: Vec<Vec<u8>>) -> Self {
        Self { rows: values.into_iter().map(|value| vec![value]).collect(), width: 1 }
    }

    /// Links another source to it, value by value: the shorter of them says how many there are, as with GNU parallel.
    pub fn link(&mut self, values: Vec<Vec<u8>>) {
        self.width += 1;
        self.rows.truncate(values.len());
        self.rows.iter_mut().zip(values).for_each(|(row, value)| row.push(value));
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
pub fn blocks(
    path: &Path,
    pieces: Pieces,
    recipe: Recipe,
) -> Result<(mpsc::Receiver<RowBatch<EachCall>>, Vec<String>), Error> {
    let warnings = vetting::vet_blocks(&recipe).map_err(Error::usage)?;
    let (name, file) = open(path)?;
    let recipe = Arc::new(recipe);
    let rows = on_thread(move |batcher| cut(file, pieces, &recipe, batcher).map_err(|stopped| stopped.of(&name)))?;
    Ok((rows, warnings))
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
        let mut whole = 0;
        while !is_full(&block, lines) && read_line(&mut reader, b'\n', &mut block, whole + LONGEST_ROW_BYTES)? {
            if block.len() > whole + LONGEST_ROW_BYTES {
                return Err(Stopped::Failed(format!(
                    "block {number} has a line of more than {} MiB",
                    LONGEST_ROW_BYTES >> 20
                )));
            }
            lines += 1;
            whole = block.len();
        }
        if block.is_empty() {
            break;
        }
        let values = Values { positions: vec![format!("block {number}").into_bytes()], columns: Vec::new() };
        let call = EachCall { recipe: recipe.clone(), values, block: Some(block.into()), limit_key: "".into() };
        let mut batcher = batcher.borrow_mut();
        batcher.push(Row { id: None, origin: RowOrigin::default(), call: Ok(call) })?;
        // A block may be large, so they are handed over one by one.
        batcher.flush()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{each::Places, row::NoFields};

    fn items(values: &[&str]) -> Items {
        Items::new(values.iter().map(|value| value.as_bytes().to_vec()).collect())
    }

    fn commands(sources: &[&[&str]], argv: &[&str]) -> Vec<Vec<String>> {
        let grammar = super::super::Grammar::default();
        let recipe = Recipe { argv: argv.iter().map(|word| grammar.word(&word.into())).collect(), ..Recipe::default() };
        let maker = EachMaker::new(recipe, sources.iter().map(|source| items(source)).collect(), None).unwrap();
        let mut made = Vec::new();
        maker.make(&NoFields, RowOrigin::default(), &mut |row| {
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
        assert!(EachMaker::new(recipe, vec![items(&["a"])], None).unwrap_err().contains("{2}"));
    }
}
