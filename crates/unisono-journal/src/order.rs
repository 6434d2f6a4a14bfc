//! The order of an input, for a results file that is put into it.
//!
//! Rows that are known by their number stand where it says. Where rows may stand anywhere, a line has the number of the
//! run that wrote it. A row of the input that goes on under the number of an earlier run says so, and its lines go
//! where it stands: so do all that are known by their ids, and of those that are known by their content what runs again
//! or is in doubt. What is kept for its content alone goes where the input has that now, and equal rows go there one by
//! one. Lines of rows that the input does not have go to the end.
//!
//! Takes 16 bytes for each row that an earlier run has decided.

use std::collections::HashMap;

use crate::line::Head;

/// Where the rows of an input stand.
#[derive(Debug, Default)]
pub struct InputOrder {
    /// Lines from this row on are this run's.
    first_row: u64,
    /// Numbers of earlier runs, with their place in the input.
    numbers: HashMap<u64, u64>,
    /// Contents of earlier runs, with their place in the input.
    contents: Vec<(u64, u64)>,
}

impl InputOrder {
    /// For an input whose first row gets this number.
    pub fn new(first_row: u64) -> Self {
        Self { first_row, ..Self::default() }
    }

    /// The row at this place of the input, from 0, has a line of an earlier run, or gets one in its name: under this
    /// number, if that is one of an earlier run, and otherwise there is a line that asks for the same.
    pub fn has_line(&mut self, place: u64, number: u64, fingerprint: u64) {
        if number < self.first_row {
            self.numbers.insert(number, place);
        } else if self.first_row > 0 {
            self.contents.push((fingerprint, place));
        }
    }

    /// The place in the input of each line, in the order of the lines.
    pub(crate) fn places<'a>(mut self, heads: impl Iterator<Item = &'a (u64, u64)>) -> Vec<u64> {
        self.contents.sort_unstable();
        let mut earlier: Vec<(u64, u64, usize)> = Vec::new();
        let mut places = Vec::new();
        for (at, (row, fingerprint)) in heads.enumerate() {
            let place = row.checked_sub(self.first_row).or_else(|| self.numbers.get(row).copied());
            if place.is_none() {
                earlier.push((*fingerprint, *row, at));
            }
            places.push(place.unwrap_or(u64::MAX));
        }
        earlier.sort_unstable();
        let mut known = self.contents.into_iter().peekable();
        for pages in earlier.chunk_by(|one, other| (one.0, one.1) == (other.0, other.1)) {
            let fingerprint = pages[0].0;
            while known.next_if(|(other, _)| *other < fingerprint).is_some() {}
            if let Some((_, place)) = known.next_if(|(other, _)| *other == fingerprint) {
                pages.iter().for_each(|(.., at)| places[*at] = place);
            }
        }
        places
    }
}

/// What [`InputOrder::places`] asks of a line.
pub(crate) fn of(head: &Head<'_>) -> (u64, u64) {
    (head.key.row, head.fingerprint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_earlier_runs_go_where_the_input_has_their_content_now() {
        let mut order = InputOrder::new(5);
        // The input is `b a new b c`, of which `new` is the third row, 7.
        for (place, number, content) in [(0, 5, 20), (1, 6, 10), (3, 8, 20), (4, 9, 30)] {
            order.has_line(place, number, content);
        }
        let lines = [(0, 10), (1, 20), (2, 99), (3, 20), (4, 30), (7, 50), (1, 20)];
        assert_eq!(order.places(lines.iter()), [1, 0, u64::MAX, 3, 4, 2, 0]);
    }

    #[test]
    fn of_lines_that_ask_for_the_same_each_goes_where_its_own_row_stands() {
        let mut order = InputOrder::new(3);
        for (place, number) in [(0, 2), (1, 0), (3, 1)] {
            order.has_line(place, number, 20);
        }
        // The one at place 2 is new, and all ask for the same.
        assert_eq!(order.places([(0, 20), (1, 20), (2, 20), (5, 20)].iter()), [1, 3, 0, 2]);
    }

    #[test]
    fn rows_that_are_known_by_their_number_stand_where_it_says() {
        assert_eq!(InputOrder::default().places([(3, 1), (0, 1), (2, 7)].iter()), [3, 0, 2]);
    }
}
