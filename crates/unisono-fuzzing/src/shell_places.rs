//! Where in a shell's script places stand; a NUL is a place.

use unisono_runner::script::{PLACE, Script, Standing};

pub(crate) fn body(bytes: &[u8]) {
    let script = Script::read(bytes);
    let places: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] == PLACE).collect();
    assert_eq!(script.standings.len(), places.len(), "each place has one standing");
    for at in [bytes.len() / 2, bytes.len().saturating_sub(1)] {
        // What comes later changes nothing about a place that may be filled in.
        let part = Script::read(&bytes[..at]);
        for (whole, part) in script.standings.iter().zip(&part.standings) {
            assert!(*whole != Standing::Word || *part == Standing::Word, "{part:?} without what follows at {at}");
        }
    }
    let filled =
        places.iter().zip(&script.standings).enumerate().find(|(_, (_, standing))| **standing == Standing::Word);
    if let Some((number, (at, _))) = filled {
        // A value that is filled in between quotes changes nothing about the others.
        let text = [&bytes[..*at], b"'a b'", &bytes[at + 1..]].concat();
        let mut others = script.standings.clone();
        others.remove(number);
        assert_eq!(Script::read(&text).standings, others, "with the place {number} filled in");
    }
    let numbers: Vec<usize> = script.commands.iter().flatten().flat_map(|word| word.places.clone()).collect();
    assert!(numbers.iter().all(|number| script.standings[*number] == Standing::Word), "a word has what is no word");

    // Any bytes in either kind of quotes; what is filled in behind them stands in a word.
    for (quote, standing) in [(b'\'', Standing::SingleQuotes), (b'"', Standing::DoubleQuotes)] {
        let inside: Vec<u8> = bytes.iter().copied().filter(|byte| !b"'\"\\$`".contains(byte)).collect();
        let text = [&b"a "[..], &[quote], &inside, &[quote], b" \0\n"].concat();
        let mut expected = vec![standing; inside.iter().filter(|byte| **byte == PLACE).count()];
        expected.push(Standing::Word);
        assert_eq!(Script::read(&text).standings, expected);
    }
}
