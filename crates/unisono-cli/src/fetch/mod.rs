//! `unisono fetch`: words into a plan, a plan into a run, a report into words.

mod args;
mod plan;

use unisono_runner::{FetchCall, FetchPlan, FetchStyle, Filter, Frame, Open, Paginate};

use crate::{
    bridge,
    failure::Failure,
    launch::{dry_run, launch, on_event},
    signals::Handling,
    waiting::{OtherEnd, opening, typed},
};
pub use args::FetchArgs;

/// Runs the command; returns its exit status.
pub fn run(args: FetchArgs) -> Result<u8, Failure> {
    let terminal = args.show.terminal();
    args.output.check(args.answer.save.is_some())?;
    args.refuse_own_input()?;
    let defaults = args.defaults()?;
    args.from.iter().for_each(|path| typed(path, "rows", &args.show, &terminal));
    let input = opening(args.from.as_deref(), OtherEnd::Writer, &terminal, || args.input(defaults))?;
    if args.dry_run {
        return dry_run(input.start()?, &terminal, describe);
    }
    let total = input.total();
    let mut plan = FetchPlan {
        http: args.options()?,
        remote: None,
        select: args.answer.select.as_deref().map(Filter::new).transpose().map_err(Failure::usage)?,
        paginate: args
            .answer
            .paginate
            .as_deref()
            .map(|how| Paginate::parse(how, args.answer.max_pages))
            .transpose()
            .map_err(Failure::usage)?,
        evaluator: Some(crate::evaluate::command()),
        idempotency_keys: args.request.idempotency_key,
        saving: args.answer.save.is_some().then(|| args.output.saving(args.from.clone().into_iter().collect())),
        frame: Frame {
            settings: args.limits.settings(),
            output: args.output.output(Open::default())?,
            outlet: None,
            style: FetchStyle { body: args.answer.body.into(), headers: args.answer.include_headers },
            keep_order: args.keep_order,
            max_failures: args.limits.max_failures,
            canary: args.limits.canary,
            on_event: on_event(&args.show, &terminal),
            rows: Box::new(input.start()?),
        },
    };
    let mut bridge = None;
    if let Some(address) = &args.connection.on {
        let (remote, started) = bridge::start(address, &plan.http)?;
        (plan.remote, bridge) = (Some(remote), Some(started));
    }
    let resumable = args.output.out.is_some();
    let run = |cancel, monitor, gauge| unisono_runner::fetch(plan, cancel, monitor, gauge);
    let report = launch(&args.show, &terminal, total, resumable, Handling::default(), run);
    drop(bridge);
    Ok(report?.exit_code())
}

/// What would be sent.
fn describe(call: &FetchCall, object: &mut serde_json::Map<String, serde_json::Value>) {
    object.insert("method".into(), call.request.method.as_str().into());
    object.insert("url".into(), call.request.url.to_string().into());
    object.insert("body_bytes".into(), call.request.body.length().into());
    if let Some(path) = &call.save {
        object.insert("save".into(), path.to_string_lossy().into());
    }
}
