//! Other addresses than before, on the real kernel (rule 14.3). Needs root.

mod kernel_lab;

use std::time::Duration;

use turnip::seams::Kernel;
use turnip_core::{Assignment, Backstop, KernelOp};

use kernel_lab::*;

async fn configure(host: &Host, addresses: &[Assignment]) {
    let op = KernelOp::Configure { addresses: addresses.to_vec() };
    assert_eq!(host.kernel.perform(op).await, done());
}

#[test]
fn what_is_held_goes_on_and_what_has_become_a_vip_is_silent_until_it_is_held() {
    on_a_host(|| async {
        listen();
        let neighbour = Neighbour::join().await;
        let [old, new] = ["10.0.0.50/24", "10.0.0.51/24"].map(|vip| on(DEVICE, vip));
        let link_local = on(DEVICE, "fe80::77/64");
        let host = Host::start(Backstop::Fence, std::slice::from_ref(&old));
        let held = std::slice::from_ref(&old);
        assert_eq!(host.assume(held, host.after(30_000)).await, done());
        // Somebody has the other one already.
        add(DEVICE, "10.0.0.51/24").await;
        let reaches = |one: &Assignment| neighbour.reaches(one.address.addr());
        assert!(reaches(&old) && reaches(&new));
        configure(&host, &[old.clone(), new.clone(), link_local.clone()]).await;
        assert!(reaches(&old) && !reaches(&new));
        let listed = host.list().await.addresses;
        assert!(listed.iter().any(|one| one.address == new.address && !one.marked), "{listed:?}");
        assert_eq!(host.refresh(held, host.after(30_000)).await, done());
        remove(DEVICE, "10.0.0.51/24").await;
        let more = [new.clone(), link_local.clone()];
        assert_eq!(host.assume(&more, host.after(30_000)).await, done());
        assert!(reaches(&old) && reaches(&new) && is_present("fe80::77/64").await);
        // And back: what is no VIP any more is silent while it is there, and nobody's business after that.
        assert_eq!(host.withdraw(&[old.clone(), link_local]).await, done());
        configure(&host, std::slice::from_ref(&new)).await;
        assert!(reaches(&new));
        host.list().await;
        add(DEVICE, "10.0.0.50/24").await;
        assert!(reaches(&old), "it is the host's own now");
        assert_eq!(host.kernel.fence_repairs(), 0, "nobody else has changed the fence");
    });
}

#[test]
fn a_renewal_beside_many_new_addresses_is_in_time() {
    on_a_host(|| async {
        let _neighbour = Neighbour::join().await;
        let old = many(1_000);
        let host = Host::start(Backstop::Fence, &old);
        assert_eq!(host.assume(&old, host.after(30_000)).await, done());
        let new: Vec<Assignment> = many(2_000);
        let start = std::time::Instant::now();
        configure(&host, &new).await;
        assert_eq!(host.refresh(&old, host.after(30_000)).await, done());
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    });
}
