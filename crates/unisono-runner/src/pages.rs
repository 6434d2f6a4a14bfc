//! How many pages a row may have, over all runs, and which rows have more.
//!
//! The bound is of the row, not of the run: a resume with the same bound finds its rows finished, and one with a larger
//! bound goes on where they ended.

use std::{cell::RefCell, rc::Rc};

/// The bound of a run, and the account of what it has cut off.
#[derive(Debug, Clone, Default)]
pub struct Pages {
    /// The most pages of a row; 0 where rows have none.
    pub most: u32,
    cut_off: Rc<RefCell<CutOff>>,
}

/// How many rows, and the name of one of them: there may be millions.
#[derive(Debug, Default)]
struct CutOff {
    count: u64,
    first: String,
}

impl Pages {
    /// At most so many pages a row.
    pub fn up_to(most: u32) -> Self {
        Self { most, ..Self::default() }
    }

    /// This row has more.
    pub fn cut_off(&self, name: String) {
        let mut rows = self.cut_off.borrow_mut();
        if rows.count == 0 {
            rows.first = name;
        }
        rows.count += 1;
    }

    /// What a person is to be told of the rows that have more.
    pub fn warning(&self) -> Option<String> {
        let rows = self.cut_off.borrow();
        let (count, first) = (rows.count, &rows.first);
        let rows = if count == 1 { "row has" } else { "rows have" };
        (count > 0).then(|| match self.most {
            0 => format!(
                "{count} {rows} further pages in the results file (the first: {first}), and this run follows none; --resume with \
                 --paginate goes on with them"
            ),
            most => format!(
                "{count} {rows} more pages than --max-pages {most} allows (the first: {first}); --resume with a larger one goes on \
                 with them"
            ),
        })
    }
}
