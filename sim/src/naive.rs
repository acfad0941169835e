//! The original turnip's algorithm: ask the local member now and then whether it leads, and add
//! or remove the addresses accordingly. Its README speaks of "about 10 seconds" for a failover.

use std::rc::Rc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::{Either, select};
use turnip::seams::{Clock, Command, Kernel, Store};
use turnip_core::{Assignment, Exit, KernelOp};

use crate::rng::Rng;
use crate::world::World;
use crate::world::seams::SimHost;

/// Between two questions, in ms.
const PAUSE_MS: std::ops::RangeInclusive<u64> = 1_000..=14_000;

/// Longer than any run.
const FOR_EVER: Duration = Duration::from_secs(1 << 30);

/// Long enough for every question.
const STATUS_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs it until it is stopped. It leaves its addresses behind.
pub async fn run(world: &Rc<World>, seam: &SimHost, host: usize) -> Exit {
    let (mut rng, addresses) = {
        let inner = world.inner();
        let layout = &inner.env.layout;
        let life = u64::from(inner.hosts.incarnation(host));
        let rng = Rng::new(inner.env.plan.seed ^ (host as u64) << 32 ^ life, "naive");
        let addresses: Vec<Assignment> = layout
            .addresses
            .iter()
            .map(|&(id, address)| Assignment {
                vip: layout.names.vip(id / 2).clone(),
                interface: layout.interfaces[0].clone(),
                address,
            })
            .collect();
        (rng, addresses)
    };
    let mut commands = Box::pin(seam.commands());
    let mut held = false;
    loop {
        let until = seam.now() + Duration::from_millis(rng.within(PAUSE_MS));
        let pause = Box::pin(seam.sleep_until(until));
        if let Either::Left((Some(Command::Stop | Command::StopNow), _)) =
            select(commands.next(), pause).await
        {
            return Exit::Stopped;
        }
        let leads = seam.member_status(STATUS_TIMEOUT).await.is_ok_and(|status| status.is_leader);
        if leads && !held {
            let deadline = seam.now() + FOR_EVER;
            seam.perform(KernelOp::Assume { addresses: addresses.clone(), deadline }).await;
        } else if !leads && held {
            seam.perform(KernelOp::Withdraw { addresses: addresses.clone() }).await;
        }
        held = leads;
    }
}
