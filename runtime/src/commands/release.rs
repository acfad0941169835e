//! `turnip release`: clears this host by hand.

use std::process::ExitCode;

use clap::Args;
use turnip::kernel::release;
use turnip::lock::{InstanceLock, LockError};

use super::cluster::block_on;
use super::run::runtime_directory;
use super::{FAILED, OK, fail, needs, print};

/// What its help ends with.
pub const AFTER_HELP: &str = "\
It works on this host alone and asks nobody: every address that carries turnip's mark goes, \
configured or not, then the fence. The fence stays where it silences an address that is not turnip's \
and would answer without it. Others take the VIPs when this host's lease has run out.";

/// How far to go.
#[derive(Args)]
pub struct ReleaseArgs {
    /// Clear the host although a daemon runs on it, which will put back what it holds; and remove the
    /// fence although an address of a VIP answers then
    #[arg(long)]
    force: bool,
}

/// Takes away every address with turnip's mark, then the fence.
pub fn release(args: &ReleaseArgs) -> ExitCode {
    match block_on(clear(args.force)).flatten() {
        Ok(said) => {
            print(&said);
            ExitCode::from(OK)
        }
        Err(why) => fail(FAILED, why),
    }
}

async fn clear(force: bool) -> Result<String, String> {
    needs::privileges().map_err(|why| why.to_string())?;
    // Held to the end, so that no daemon starts meanwhile.
    let lock = InstanceLock::take("turnip release");
    match &lock {
        Err(taken @ LockError::Taken { .. }) if !force => {
            return Err(format!(
                "{taken}. Nothing was touched: stop it, and it clears the host itself; --force clears under its hands"
            ));
        }
        Err(LockError::Io(_)) if !force => {
            return Err(lock.err().map(|error| error.to_string()).unwrap_or_default());
        }
        _ => {}
    }
    let release = if force { release::release_all } else { release::release };
    let released = release(&runtime_directory()).map_err(|error| error.to_string())?;
    let mut said = String::new();
    for one in &released.addresses {
        said += &format!("removed {} from {}\n", one.address, one.interface);
    }
    for what in &released.companions {
        said += &format!("removed {what}\n");
    }
    for name in &released.promotions {
        said += &format!("set promote_secondaries of {name} back to 0\n");
    }
    for what in &released.settings {
        said += &format!("set {what} back to 0\n");
    }
    if released.fence {
        said += "removed the fence\n";
    }
    for one in &released.silenced {
        said += &format!(
            "left the fence: {} on {} is not turnip's, and would answer beside the host that has the VIP. Take it away (`ip address del {} dev {}`), then run `turnip release` again; --force removes the fence all the same\n",
            one.address, one.interface, one.address, one.interface
        );
    }
    if said.is_empty() {
        said += "nothing to remove: no address with turnip's mark, and no fence\n";
    }
    Ok(said)
}
