//! What runs of the tests have in common.

use unisono_runner::{Call, Destination, Done, Feed, Frame, Settings};

/// Runs these rows in their order, and nothing beside.
pub fn frame<C: Call>(rows: impl Feed<C> + 'static, settings: Settings, output: Destination) -> Frame<C>
where
    <C::Done as Done>::Style: Default,
{
    Frame {
        rows: Box::new(rows),
        settings,
        output,
        outlet: None,
        style: Default::default(),
        keep_order: true,
        max_failures: None,
        canary: None,
        on_event: None,
    }
}
