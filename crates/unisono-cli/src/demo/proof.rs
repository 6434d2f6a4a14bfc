//! Whether the results and the ledger agree.

use std::{
    collections::BTreeMap,
    fmt::Write,
    fs::File,
    io::{self, BufRead, BufReader},
    path::Path,
    time::Duration,
};

use serde_json::Value;

use super::ledger::{Entries, Ledger};

/// What was found.
pub struct Proof {
    rows: u64,
    outcomes: BTreeMap<String, u64>,
    /// Orders that are in doubt, and those that were done and found wrong: how they ended, their names, and
    /// why.
    told: Vec<[String; 3]>,
    entries: Entries,
    /// Every statement that must hold, and whether it does.
    statements: Vec<(String, bool)>,
}

impl Proof {
    /// Reads the results and compares.
    ///
    /// `lost` is how many rows a restart of the API cost before.
    pub fn check(results: &Path, rows: u64, ledger: &Ledger, lost: usize) -> io::Result<Self> {
        let entries = ledger.entries();
        let mut seen = vec![0u32; usize::try_from(rows).unwrap_or(usize::MAX)];
        let mut outcomes = BTreeMap::new();
        let mut told = Vec::new();
        let (mut strangers, mut wrong_bodies, mut undone, mut denied, mut left) = (0, 0, 0, 0, 0);
        for line in BufReader::new(File::open(results)?).lines() {
            let value: Value = serde_json::from_str(&line?)?;
            let row = value["row"].as_u64().unwrap_or(u64::MAX);
            match usize::try_from(row).ok().and_then(|row| seen.get_mut(row)) {
                Some(count) => *count += 1,
                None => strangers += 1,
            }
            let outcome = value["outcome"].as_str().unwrap_or("none").to_owned();
            let is_order = value["method"] == "POST";
            let done = entries.orders.get(&row).copied().unwrap_or(0);
            let effect = value["effect"].as_str().unwrap_or("");
            denied += u64::from(is_order && (done > 0 && effect == "none" || done == 0 && effect == "done"));
            match outcome.as_str() {
                // The disk was full: that it was done is kept, what came back is not.
                "ok" if value["body_lost"] == true => undone += u64::from(is_order && done != 1),
                "ok" if is_order => {
                    wrong_bodies += u64::from(value["body"]["order"] != row);
                    undone += u64::from(done != 1);
                }
                "ok" => wrong_bodies += u64::from(value["body"]["id"] != row),
                // What may not be repeated has to be told; everything else should be done.
                _ if effect != "none" && value["repeatable"] == false => {
                    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
                    told.push([outcome.clone(), text(&value["id"]), text(&value["error"]["message"])]);
                }
                _ => left += 1,
            }
            *outcomes.entry(outcome).or_default() += 1;
        }
        let missing = seen.iter().filter(|count| **count == 0).count();
        let double = seen.iter().filter(|count| **count > 1).count();
        let twice = entries.orders.values().filter(|count| **count > 1).count();
        let statements = vec![
            (
                format!("every row has exactly one outcome ({missing} missing, {double} double, {strangers} unknown)"),
                missing == 0 && double == 0 && strangers == 0,
            ),
            (format!("no row failed by the restart of the API ({lost} did)"), lost == 0),
            (format!("no order took effect twice ({twice} did)"), twice == 0),
            (format!("every order that is `ok` took effect once ({undone} did not)"), undone == 0),
            (
                format!("every line says of its order what the API knows, or that nobody does ({denied} do not)"),
                denied == 0,
            ),
            (format!("every answer is the one for its row ({wrong_bodies} are not)"), wrong_bodies == 0),
            (format!("everything that could be repeated is done ({left} are not)"), left == 0),
        ];
        Ok(Self { rows, outcomes, told, entries, statements })
    }

    /// Whether every statement holds.
    pub fn holds(&self) -> bool {
        self.statements.iter().all(|(_, holds)| *holds)
    }

    /// For a person to read.
    pub fn text(&self, took: Duration) -> String {
        let mut text = String::new();
        let counts: Vec<String> = self.outcomes.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "\n{} rows: {}", self.rows, counts.join(", "));
        let deeds: Vec<String> = self.entries.deeds.iter().map(|(deed, count)| format!("{count} × {deed}")).collect();
        let _ = writeln!(
            text,
            "the API got {} requests and answered some of them with: {}",
            self.entries.requests,
            deeds.join(", ")
        );
        for [outcome, id, why] in &self.told {
            let _ = writeln!(text, "  {outcome}: {id}: {why}");
        }
        for (statement, holds) in &self.statements {
            let _ = writeln!(text, "  [{}] {statement}", if *holds { "ok" } else { "NO" });
        }
        let verdict = if self.holds() { "the proof holds" } else { "THE PROOF FAILS" };
        let _ = writeln!(text, "{verdict}, in {:.1} s", took.as_secs_f64());
        text
    }
}

/// How many rows have failed since their host was not there. The last line may have been cut off by a kill.
pub fn lost_to_restart(results: &Path) -> io::Result<usize> {
    let mut lost = 0;
    for line in BufReader::new(File::open(results)?).split(b'\n') {
        let Ok(value) = serde_json::from_slice::<Value>(&line?) else { continue };
        let kind = value["error"]["kind"].as_str().unwrap_or("");
        lost += usize::from(value["outcome"] == "failed" && LOST.contains(&kind));
    }
    Ok(lost)
}

/// What a host that is not there makes of rows that are not waited for.
const LOST: [&str; 5] = ["connect", "closed", "incomplete_body", "away", "retry_budget"];
