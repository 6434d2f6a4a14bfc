//! Events as text for people, and as lines of JSON.

use std::{borrow::Cow, fmt::Write, time::Duration};

use serde_json::{Value, json};
use unisono_core::printable;

use crate::{
    cause::{Cause, Work},
    event::{Ended, Event, Holder, Kind, Stall, ThreadName},
    interpreter::Frame,
    origin::Origin,
};

/// So many frames are shown of a stack.
const FRAMES_SHOWN: usize = 12;
/// And so many characters of a name.
const NAME_SHOWN: usize = 160;

/// Returns the event as lines for people, with a line feed at the end.
pub fn text(event: &Event, origin: &Origin) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = match event {
        Event::Stall(stall) => write_stall(&mut text, stall, origin),
        Event::Ended(ended) => write_ended(&mut text, ended),
    };
    text
}

fn write_stall(text: &mut String, stall: &Stall, origin: &Origin) -> std::fmt::Result {
    let (age, going_on) = (seconds(stall.age), if stall.again { " and still goes on" } else { "" });
    let thread = name_of(&stall.thread);
    match &stall.kind {
        Kind::Blocked { cause: Cause::NoCpu, .. } => writeln!(
            text,
            "unisono.watch: the event loop of {thread} is given no CPU for {age}{going_on}: no line of the program is to \
             blame, but a quota of its control group or an overloaded machine"
        )?,
        Kind::Blocked { cause, stack } => {
            let place = stall.place(origin).map_or_else(|| "a line that cannot be read".to_owned(), shown);
            let by = stall.holder.as_ref().map(|holder| format!(" by {}", holder_name(holder))).unwrap_or_default();
            writeln!(text, "unisono.watch: the event loop of {thread} is blocked{by} for {age}{going_on}: {place}")?;
            if let Some(holder) = &stall.holder {
                writeln!(text, "  that thread has the interpreter's lock:")?;
                write_stack(text, &holder.stack)?;
            }
            writeln!(text, "  {}:", told(*cause))?;
            write_stack(text, stack)?;
        }
        Kind::Late { lines } => {
            writeln!(
                text,
                "unisono.watch: the event loop of {thread} is late by {age}{going_on}: no callback blocks it, too many \
                 are ready"
            )?;
            for (frame, count) in lines {
                writeln!(text, "  seen {count} times: {}", shown(frame))?;
            }
        }
    }
    if stall.kept_back > 0 {
        writeln!(text, "  {} more stalls at this line were not shown", stall.kept_back)?;
    }
    Ok(())
}

fn write_ended(text: &mut String, ended: &Ended) -> std::fmt::Result {
    let (thread, whole) = (name_of(&ended.thread), seconds(ended.whole));
    match &ended.place {
        Some(place) => {
            writeln!(text, "unisono.watch: the event loop of {thread} goes on after {whole}: {}", shown(place))
        }
        None => writeln!(text, "unisono.watch: the event loop of {thread} goes on after {whole}"),
    }
}

fn write_stack(text: &mut String, stack: &[Frame]) -> std::fmt::Result {
    for frame in stack.iter().take(FRAMES_SHOWN) {
        writeln!(text, "    {}", shown(frame))?;
    }
    match stack.len().saturating_sub(FRAMES_SHOWN) {
        0 => Ok(()),
        more => writeln!(text, "    and {more} more"),
    }
}

/// Returns the event as one line of JSON, with a line feed at the end.
pub fn json(event: &Event, origin: &Origin) -> String {
    let value = match event {
        Event::Stall(stall) => {
            let (kind, cause, stack) = match &stall.kind {
                Kind::Blocked { cause, stack } => {
                    ("blocked", cause_json(*cause), stack.iter().map(frame_json).collect())
                }
                Kind::Late { lines } => {
                    let seen = |(frame, count): &(Frame, usize)| {
                        let mut value = frame_json(frame);
                        value["seen"] = json!(count);
                        value
                    };
                    ("late", Value::Null, lines.iter().map(seen).collect::<Vec<_>>())
                }
            };
            json!({
                "event": "stall",
                "kind": kind,
                "thread": {"name": stall.thread.name, "id": stall.thread.id},
                "seconds": stall.age.as_secs_f64(),
                "again": stall.again,
                "place": stall.place(origin).map(frame_json),
                "cause": cause,
                "stack": stack,
                "holder": stall.holder.as_ref().map(|holder| json!({
                    "id": holder.id,
                    "stack": holder.stack.iter().map(frame_json).collect::<Vec<_>>(),
                })),
                "kept_back": stall.kept_back,
            })
        }
        Event::Ended(ended) => json!({
            "event": "ended",
            "thread": {"name": ended.thread.name, "id": ended.thread.id},
            "seconds": ended.whole.as_secs_f64(),
            "place": ended.place.as_ref().map(frame_json),
        }),
    };
    format!("{value}\n")
}

fn frame_json(frame: &Frame) -> Value {
    json!({"file": frame.file, "line": frame.line, "function": frame.function})
}

fn cause_json(cause: Cause) -> Value {
    match cause {
        Cause::WaitsForLock(_) => json!({"what": "waits_for_lock"}),
        Cause::NoCpu => json!({"what": "no_cpu"}),
        Cause::Works { on, holds_lock } => {
            let on = match on {
                Work::Collection => "collection",
                Work::OneCall => "call",
                Work::Python => "python",
            };
            json!({"what": "works", "on": on, "holds_lock": holds_lock})
        }
        Cause::Sleeps { call, holds_lock } => {
            json!({"what": "sleeps", "call": call.name(), "number": call.number, "holds_lock": holds_lock})
        }
        Cause::Unknown => json!({"what": "unknown"}),
    }
}

/// A cause in words.
fn told(cause: Cause) -> String {
    let lock = |holds: bool| if holds { ", and keeps the interpreter's lock" } else { "" };
    match cause {
        Cause::WaitsForLock(_) => "it waits for the interpreter's lock, which another thread has".into(),
        Cause::NoCpu => "it is given no CPU".into(),
        Cause::Works { on: Work::Collection, .. } => "it uses the CPU in the garbage collector".into(),
        Cause::Works { on: Work::OneCall, holds_lock } => {
            format!("it uses the CPU in one call of C, or a loop without a body{}", lock(holds_lock))
        }
        Cause::Works { on: Work::Python, .. } => "it uses the CPU in code of Python".into(),
        Cause::Sleeps { call, holds_lock } => {
            let name = call.name().map_or_else(|| format!("number {}", call.number), str::to_owned);
            format!("it sleeps in the system call {name}{}", lock(holds_lock))
        }
        Cause::Unknown => "what it does cannot be seen".into(),
    }
}

fn name_of(thread: &ThreadName) -> String {
    format!("{} ({})", cut(&printable(&thread.name)), thread.id)
}

fn holder_name(holder: &Holder) -> String {
    holder.id.map_or_else(|| "another thread".to_owned(), |id| format!("thread {id}"))
}

/// `file:line in function`.
fn shown(frame: &Frame) -> String {
    let line = frame.line.map_or_else(|| "?".to_owned(), |line| line.to_string());
    format!("{}:{line} in {}", cut(&printable(&frame.file)), cut(&printable(&frame.function)))
}

fn cut(name: &str) -> Cow<'_, str> {
    match name.char_indices().nth(NAME_SHOWN) {
        Some((place, _)) => Cow::Owned(format!("{}...", &name[..place])),
        None => Cow::Borrowed(name),
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use unisono_sys::thread_activity::SystemCall;

    use super::*;

    fn frame(file: &str, line: u32, function: &str) -> Frame {
        Frame { file: file.into(), function: function.into(), line: Some(line), is_generator: false }
    }

    fn stall() -> Stall {
        let call = SystemCall { number: 45, first: 5 };
        let stack = vec![frame("/lib/socket.py", 706, "readinto"), frame("/app/main.py", 17, "report")];
        Stall {
            thread: ThreadName { name: "MainThread".into(), id: 4711 },
            age: Duration::from_millis(1020),
            again: false,
            kept_back: 0,
            kind: Kind::Blocked { cause: Cause::Sleeps { call, holds_lock: false }, stack },
            holder: None,
        }
    }

    #[test]
    fn the_first_place_that_is_named_is_the_programs_own() {
        let origin = Origin::new(["/lib".to_owned()]);
        assert_eq!(
            text(&Event::Stall(Box::new(stall())), &origin),
            "unisono.watch: the event loop of MainThread (4711) is blocked for 1.02 s: /app/main.py:17 in report\n  \
             it sleeps in the system call recvfrom:\n    /lib/socket.py:706 in readinto\n    /app/main.py:17 in report\n"
        );
        let line: Value = serde_json::from_str(&json(&Event::Stall(Box::new(stall())), &origin)).unwrap();
        assert_eq!(line["place"], json!({"file": "/app/main.py", "line": 17, "function": "report"}));
        assert_eq!(line["cause"]["call"], "recvfrom");
    }

    #[test]
    fn no_line_is_blamed_where_no_cpu_is_given() {
        let mut stall = stall();
        let Kind::Blocked { cause, .. } = &mut stall.kind else { unreachable!("made so") };
        *cause = Cause::NoCpu;
        let event = Event::Stall(Box::new(stall));
        assert!(!text(&event, &Origin::default()).contains("main.py"));
        assert_eq!(serde_json::from_str::<Value>(&json(&event, &Origin::default())).unwrap()["place"], Value::Null);
    }

    #[test]
    fn names_of_the_program_move_no_cursor_and_are_cut() {
        let mut stall = stall();
        stall.thread.name = "\u{1b}[2Kmain".into();
        stall.kind = Kind::Late { lines: vec![(frame(&"x".repeat(10_000), 1, "f"), 3)] };
        let told = text(&Event::Stall(Box::new(stall)), &Origin::default());
        assert!(!told.contains('\u{1b}'));
        assert!(told.len() < 1000, "{}", told.len());
    }
}
