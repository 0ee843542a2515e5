//! `synod recover`: the stores of all surviving nodes go on without a majority. A plan unless the operator confirms it.

use std::error::Error;

use synod::recovery::{Plan, RecoveryError};

use crate::options::RecoverOptions;

/// Something was asked for that cannot be, and nothing was changed: exit status 2.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(crate) struct WrongUse(RecoveryError);

fn told(error: RecoveryError) -> Box<dyn Error> {
    match error.is_wrong_use() {
        true => Box::new(WrongUse(error)),
        false => Box::new(error),
    }
}

pub(crate) fn run(options: &RecoverOptions) -> Result<(), Box<dyn Error>> {
    let mut plan = Plan::draw_up(&options.store, &options.lost).map_err(told)?;
    let Some(confirmation) = &options.accept_data_loss else {
        let empty = match plan.emptied() {
            0 => "",
            _ => " --accept-empty-shards",
        };
        println!(
            "{}\nNothing was changed. To do it, give the same command with --accept-data-loss {}{empty}",
            plan.report(),
            plan.confirmation()
        );
        return Ok(());
    };
    plan.carry_out(confirmation, options.accept_empty_shards)
        .map_err(told)?;
    println!(
        "{}\nDone. Start the nodes of these stores again, then let new nodes join; `synod status` shows when every group is where it belongs.",
        plan.report()
    );
    Ok(())
}
