//! The daemon on a simulated host: turnip's own driver and node.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use turnip::driver::{self, Observation};
use turnip::seams::Clock;
use turnip_core::{
    CheckConfig, CheckState, Exit, HeartbeatConfig, Hooks, HostId, KernelOutcome, Lease, Node,
    NodeConfig, Policy, Report, VipAddress, VipConfig,
};

use crate::naive;
use crate::plan::config::{self, LeaseParams, VipSection};
use crate::plan::{CheckParams, Daemon, HookParams, NameId, Params};
use crate::record::Refusal;
use crate::time::S;
use crate::world::layout::Layout;
use crate::world::names::{Names, vip_name};
use crate::world::seams::SimHost;
use crate::world::{Inner, World, checks};

/// More turns of the loop than any run needs: a node that keeps itself busy is a bug.
const TURNS_MAX: u64 = 3_000_000;

/// How long the service manager waits before it starts a daemon that has failed.
const RESTART_AFTER: u64 = 2 * S;

/// Runs a host's daemon from start to exit.
pub async fn run(world: Rc<World>, host: usize) {
    let seam = SimHost::new(Rc::clone(&world), host);
    let plan = Rc::clone(&world.inner().env.plan);
    // As the daemon that ships: without a fence it does not begin.
    let exit = match (seam.adapter_starts().await, plan.params.daemon) {
        (KernelOutcome::Failed(error), _) => Err(error),
        (_, Daemon::Naive) => Ok(naive::run(&world, &seam, host).await),
        (_, Daemon::Turnip(mutant)) => {
            let config = node_config(&world.inner(), host);
            let mut node = Node::new(config, seam.now());
            if let Some(mutant) = mutant {
                node.set_mutant(mutant);
            }
            node.handle_owed(seam.owed());
            Ok(drive(&world, &seam, host, node).await)
        }
    };
    let inner = &mut *world.inner();
    let env = &mut inner.env;
    env.trace(|params| format!("{h}: daemon ends: {exit:?}", h = params.host(host)));
    if matches!(exit, Ok(Exit::Left) | Err(_)) {
        // The next process kills what runs of hooks, and runs what is owed. One that did not begin has not looked at
        // what a killed one left running.
        return inner.daemon_left(host, RESTART_AFTER);
    }
    if let Ok(Exit::Refused(why)) = exit {
        env.count(|tally| &mut tally.refusals);
        let (at, name) = (env.now(), inner.hosts.config(host).name);
        env.record.refusals.push(Refusal { at, host, name, why });
    }
    inner.daemon_ended(host, RESTART_AFTER);
}

async fn drive(world: &Rc<World>, seam: &SimHost, host: usize, node: Node) -> Exit {
    let observe = |observation: Observation<'_>| match observation {
        Observation::Report(report) => {
            let env = &mut world.inner().env;
            env.trace(|params| format!("{h}: {report}", h = params.host(host)));
            if matches!(report, Report::HeldByConsent) {
                env.count(|tally| &mut tally.held_by_consent);
            }
            if matches!(report, Report::Checked { state: CheckState::Down, .. }) {
                env.count(|tally| &mut tally.checks_fell);
            }
            if let Report::StoreChanged { why, .. } = report {
                env.count(|tally| &mut tally.stores_changed);
                env.record.stores_changed.push((host, why.clone()));
            }
        }
        // Nobody looks.
        Observation::Look(..) => {}
        Observation::Turn => {
            let record = &mut world.inner().env.record;
            record.turns += 1;
            assert!(record.turns < TURNS_MAX, "the daemons' loops keep themselves busy");
        }
    };
    driver::run(node, seam, seam, seam, seam, seam, seam.commands(), observe).await
}

/// What a host's node goes by.
pub fn node_config(inner: &Inner, host: usize) -> NodeConfig {
    let (params, layout, hosts) = (&inner.env.plan.params, &inner.env.layout, &inner.hosts);
    let config = hosts.config(host);
    let address = |(&id, &interface): (&usize, &usize)| VipAddress {
        net: config::net(id),
        interface: Arc::clone(&layout.interfaces[interface]),
        parent: None,
    };
    let played = params.played.as_deref();
    let vip = |(&name, section): (&usize, &VipSection)| VipConfig {
        name: layout.names.vip(name).clone(),
        addresses: section.addresses.iter().map(address).collect(),
        policy: section.policy.clone(),
        ..usual(params, name)
    };
    let check = |(checks, vip): (CheckParams, usize)| CheckConfig {
        name: checks::name(vip),
        rise: checks.rise,
        fall: checks.fall,
        initial: checks.initial,
        weight: checks.weight,
        whole_node: false,
    };
    let all = params.checks.into_iter();
    let all = all.flat_map(|checks| (0..params.vips.len()).map(move |vip| (checks, vip)));
    let mut all_checks: Vec<CheckConfig> = all.map(check).collect();
    all_checks
        .extend(played.into_iter().flat_map(|played| &played.checks).map(|one| one.config.clone()));
    let incarnation = hosts.incarnation(host);
    let heartbeats = config.heartbeats.then(|| HeartbeatConfig {
        address: Layout::socket_of(host),
        fresh_key: format!("key of m{host}, process {incarnation}"),
        without_store: Duration::from_millis(params.without_store_ms),
    });
    // No two machines boot alike, not even those that have one machine id.
    let (machine, boot) = (config.machine, hosts.boot(host));
    NodeConfig {
        cluster: Names::cluster(config.cluster),
        name: layout.names.node(config.name).clone(),
        host: HostId(format!("m{machine}/b{host}.{boot}/n0").into()),
        process: (host as u64) << 32 | u64::from(incarnation),
        lease: lease(config.lease, params.drift_ppm),
        backstop: params.backstop.unwrap_or(turnip_core::Backstop::Fence),
        weight: config.weight,
        vips: config.vips.iter().map(vip).collect(),
        checks: all_checks,
        announce_every: params.announce_every_ms.map(Duration::from_millis),
        heartbeats,
        version: "sim".into(),
    }
}

/// A VIP but for what a host's file says of it.
fn usual(params: &Params, name: NameId) -> VipConfig {
    let vip = name % params.vips.len();
    if let Some(played) = &params.played {
        // What hooks do nobody knows here.
        return VipConfig { hooks: Hooks::default(), ..played.vips[vip].clone() };
    }
    VipConfig {
        name: vip_name(vip),
        addresses: BTreeSet::new(),
        policy: Policy::Leader,
        defend: params.defend,
        require_carrier: true,
        keep_connections: false,
        checks: params.checks.iter().map(|_| checks::name(vip)).collect(),
        last_resort: params.checks.map(|checks| checks.last_resort).unwrap_or_default(),
        hooks: params.hooks.as_ref().map(HookParams::config).unwrap_or_default(),
    }
}

/// The lease that a configuration makes.
///
/// # Panics
/// When it makes none: plans are drawn so that they do.
pub fn lease(params: LeaseParams, drift_ppm: u32) -> Lease {
    let renew = params.renew_ms.map(Duration::from_millis);
    let guard = params.guard_ms.map(Duration::from_millis);
    let duration = Duration::from_millis(params.lease_ms);
    Lease::with(duration, renew, guard, Some(drift_ppm)).expect("a safe lease")
}
