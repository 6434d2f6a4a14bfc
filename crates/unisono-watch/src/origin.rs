//! Which frames are the program's own, and which those of libraries between it and the system.

use crate::interpreter::Frame;

/// Where libraries lie.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// Folders, each with a `/` at its end.
    libraries: Vec<String>,
}

impl Origin {
    /// Code below one of these folders is not the program's.
    pub fn new(folders: impl IntoIterator<Item = String>) -> Self {
        let mut libraries: Vec<String> = folders.into_iter().filter(|folder| !folder.is_empty()).collect();
        for folder in &mut libraries {
            if !folder.ends_with('/') {
                folder.push('/');
            }
        }
        Self { libraries }
    }

    /// Whether a frame is one of the program's own.
    pub fn is_own(&self, frame: &Frame) -> bool {
        // `<frozen importlib._bootstrap>` is no file, and neither is `<string>`, which is the program's.
        !frame.file.starts_with("<frozen ") && !self.libraries.iter().any(|folder| frame.file.starts_with(folder))
    }

    /// The innermost frame of the program's own, or else the innermost one.
    pub fn place<'a>(&self, stack: &'a [Frame]) -> Option<&'a Frame> {
        stack.iter().find(|frame| self.is_own(frame)).or_else(|| stack.first())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(file: &str) -> Frame {
        Frame { file: file.into(), function: "f".into(), line: Some(1), is_generator: false }
    }

    #[test]
    fn the_programs_own_frame_is_found_among_those_of_libraries() {
        let origin = Origin::new(["/usr/lib/python3.11".into(), "/venv/site-packages/".into(), String::new()]);
        let stack = ["/usr/lib/python3.11/socket.py", "<frozen os>", "/usr/lib/python3.11-apps/app.py", "/app/x.py"];
        let stack = stack.map(frame);
        assert_eq!(origin.place(&stack), Some(&stack[2]));
        assert_eq!(origin.place(&stack[..2]), Some(&stack[0]));
        assert_eq!(origin.place(&[]), None);
    }
}
