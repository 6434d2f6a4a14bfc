//! What an expression makes of a body.

/// The outputs of an expression, in their order, each as JSON without white space.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outputs {
    /// All of them, with commas between.
    text: Vec<u8>,
    /// Where the first ends.
    first: usize,
    count: usize,
}

impl Outputs {
    /// Outputs that were joined with commas elsewhere; `first` is where the first ends. `None` when they cannot be
    /// that.
    pub fn joined(text: Vec<u8>, first: usize, count: usize) -> Option<Self> {
        let fits = match count {
            0 => text.is_empty() && first == 0,
            1 => text.len() == first,
            _ => text.get(first) == Some(&b','),
        };
        fits.then_some(Self { text, first, count })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The first.
    pub fn first(&self) -> Option<&[u8]> {
        (self.count > 0).then(|| &self.text[..self.first])
    }

    /// All of them with commas between, and where the first ends.
    pub fn parts(&self) -> (&[u8], usize) {
        (&self.text, self.first)
    }

    /// As one value: nothing for none, itself for one, else an array of them.
    pub fn into_json(self) -> Vec<u8> {
        if self.count < 2 { self.text } else { self.into_list() }
    }

    /// As an array of all of them.
    pub fn into_list(self) -> Vec<u8> {
        let mut json = Vec::with_capacity(self.text.len() + 2);
        json.push(b'[');
        json.extend_from_slice(&self.text);
        json.push(b']');
        json
    }

    /// Adds what `write` appends.
    pub fn push<E>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<(), E> {
        if self.count > 0 {
            self.text.push(b',');
        }
        write(&mut self.text)?;
        if self.count == 0 {
            self.first = self.text.len();
        }
        self.count += 1;
        Ok(())
    }
}
