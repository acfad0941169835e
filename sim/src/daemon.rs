//! The daemon on a simulated host: turnip's own driver and node.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use turnip::driver::{self, Observation};
use turnip::seams::Clock;
use turnip_core::{Exit, HostId, Lease, Node, NodeConfig, Policy, VipConfig};

use crate::naive;
use crate::plan::{Daemon, Params, PolicyParams};
use crate::time::S;
use crate::world::World;
use crate::world::names::Names;
use crate::world::seams::SimHost;

/// More turns of the loop than any run needs: a node that keeps itself busy is a bug.
const TURNS_MAX: u64 = 3_000_000;

/// How long the service manager waits before it starts a daemon that has failed.
const RESTART_AFTER: u64 = 2 * S;

/// Runs a host's daemon from start to exit.
pub async fn run(world: Rc<World>, host: usize) {
    let seam = SimHost::new(Rc::clone(&world), host);
    let plan = Rc::clone(&world.inner().env.plan);
    let exit = match plan.params.daemon {
        Daemon::Naive => naive::run(&world, &seam, host).await,
        Daemon::Turnip(mutant) => {
            let mut node = Node::new(config(&world, host), seam.now());
            if let Some(mutant) = mutant {
                node.set_mutant(mutant);
            }
            drive(&world, &seam, host, node).await
        }
        Daemon::HeedlessAdapter => {
            let node = Node::new(config(&world, host), seam.now());
            drive(&world, &seam, host, node).await
        }
    };
    let mut inner = world.inner();
    let env = &mut inner.env;
    env.trace(|| format!("host {host}: daemon ends: {exit:?}"));
    if let Exit::Refused(why) = exit {
        env.count(|tally| &mut tally.refusals);
        env.record.refusals.push((host, why));
    }
    inner.daemon_ended(host, RESTART_AFTER);
}

async fn drive(world: &Rc<World>, seam: &SimHost, host: usize, node: Node) -> Exit {
    let observe = |observation: Observation<'_>| match observation {
        Observation::Report(report) => {
            world.inner().env.trace(|| format!("host {host}: {report}"));
        }
        Observation::Turn => {
            let record = &mut world.inner().env.record;
            record.turns += 1;
            assert!(record.turns < TURNS_MAX, "the daemons' loops keep themselves busy");
        }
    };
    driver::run(node, seam, seam, seam, seam.commands(), observe).await
}

fn config(world: &World, host: usize) -> NodeConfig {
    let inner = world.inner();
    let (params, layout, hosts) = (&inner.env.plan.params, &inner.env.layout, &inner.hosts);
    let vips = hosts.vips(host).iter().map(|&vip| VipConfig {
        name: layout.names.vip(vip).clone(),
        addresses: layout.vip_addresses[vip].iter().copied().collect(),
        interface: Arc::clone(&layout.interface),
        policy: policy(&params.vips[vip].policy, host),
    });
    NodeConfig {
        cluster: Names::cluster(),
        name: layout.names.node(host).clone(),
        host: HostId(format!("m{host}/b{}/n0", hosts.boot(host)).into()),
        process: (host as u64) << 32 | u64::from(hosts.incarnation(host)),
        lease: lease(params),
        backstop: params.backstop.unwrap_or(turnip_core::Backstop::Fence),
        weight: params.weights[host],
        vips: vips.collect(),
        version: "sim".into(),
    }
}

/// The lease that a run's parameters make.
///
/// # Panics
/// When they make none: plans are drawn so that they do.
pub fn lease(params: &Params) -> Lease {
    let renew = params.renew_ms.map(Duration::from_millis);
    let guard = params.guard_ms.map(Duration::from_millis);
    let duration = Duration::from_millis(params.lease_ms);
    Lease::with(duration, renew, guard, Some(params.drift_ppm)).expect("a safe lease")
}

/// A host's part in a policy.
pub fn policy(params: &PolicyParams, host: usize) -> Policy {
    match params {
        PolicyParams::Leader => Policy::Leader,
        PolicyParams::Spread => Policy::Spread,
        PolicyParams::Priority { priorities, preempt } => {
            Policy::Priority { priority: priorities[host], preempt: *preempt }
        }
    }
}
