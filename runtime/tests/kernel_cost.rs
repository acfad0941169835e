//! What the kernel adapter costs, and how exact the gate is: figures, not assertions.
//! `cargo test --release -p turnip --test kernel_cost -- --ignored --nocapture`

mod kernel_lab;

use std::time::{Duration, Instant};

use kernel_lab::*;
use turnip::seams::{Clock, Kernel};
use turnip_core::Backstop;

fn print(what: &str, mut samples: Vec<Duration>) {
    samples.sort();
    let median = samples[samples.len() / 2];
    println!(
        "{what:40} min {:>10.1?}  median {median:>10.1?}  max {:>10.1?}",
        samples[0],
        samples[samples.len() - 1]
    );
}

#[test]
#[ignore = "a measurement"]
fn what_operations_cost() {
    for (count, turns) in [(1, 200), (1_000, 10), (10_000, 1)] {
        on_a_host(move || async move {
            let vips = many(count);
            let host = Host::start(Backstop::Fence, &vips);
            let (mut assume, mut refresh, mut withdraw, mut list, mut announce) =
                (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
            for _ in 0..turns {
                let start = Instant::now();
                assert_eq!(host.assume(&vips, host.after(600_000)).await, done());
                assume.push(start.elapsed());
                for turn in 0..20 {
                    let start = Instant::now();
                    assert_eq!(host.refresh(&vips, host.after(600_001 + turn)).await, done());
                    refresh.push(start.elapsed());
                }
                let start = Instant::now();
                host.list().await;
                list.push(start.elapsed());
                let start = Instant::now();
                host.kernel.announce(vips.clone(), host.after(600_000)).await;
                announce.push(start.elapsed());
                let start = Instant::now();
                assert_eq!(host.withdraw(&vips).await, done());
                withdraw.push(start.elapsed());
            }
            println!("{count} addresses");
            print("assume", assume);
            print("refresh", refresh);
            print("list", list);
            print("announce (on lo: nothing sent)", announce);
            print("withdraw", withdraw);
        });
    }
}

#[test]
#[ignore = "a measurement"]
fn what_a_renewal_costs_after_somebody_elses_change() {
    for (count, turns) in [(1, 20), (1_000, 5), (10_000, 1)] {
        on_a_host(move || async move {
            let vips = many(count);
            let host = Host::start(Backstop::Fence, &vips);
            assert_eq!(host.assume(&vips, host.after(600_000)).await, done());
            let mut refresh = Vec::new();
            for _ in 0..turns {
                for change in ["add table inet other", "delete table inet other"] {
                    let nft = std::process::Command::new("nft").arg(change).status().unwrap();
                    assert!(nft.success());
                    let start = Instant::now();
                    assert_eq!(host.refresh(&vips, host.after(600_001)).await, done());
                    refresh.push(start.elapsed());
                }
            }
            println!("{count} addresses");
            print("refresh after a change by others", refresh);
        });
    }
}

/// The processor time of this process, the kernel's for it included.
fn processor_time() -> Duration {
    let clock = nix::time::ClockId::CLOCK_PROCESS_CPUTIME_ID;
    nix::time::clock_gettime(clock).unwrap().into()
}

#[test]
#[ignore = "a measurement"]
fn what_holding_costs_at_rest() {
    for count in [1, 10, 100, 256, 1_000] {
        on_a_host(move || async move {
            let vips = many(count);
            let host = Host::start(Backstop::Fence, &vips);
            assert_eq!(host.assume(&vips, host.after(2_970)).await, done());
            let (start, before) = (Instant::now(), processor_time());
            for turn in 1..=40 {
                tokio::time::sleep_until((start + turn * Duration::from_millis(500)).into()).await;
                assert_eq!(host.refresh(&vips, host.after(2_966)).await, done());
            }
            let share = (processor_time() - before).as_secs_f64() / start.elapsed().as_secs_f64();
            println!("{count} addresses held at a lease of 3 s: {:.2} % of a core", 100.0 * share);
        });
    }
}

#[test]
#[ignore = "a measurement"]
fn how_exact_the_gate_is() {
    on_a_host(|| async {
        let vip = [on("lo", "10.9.0.1/32")];
        let host = Host::start(Backstop::Fence, &vip);
        let socket = std::net::UdpSocket::bind("10.9.0.1:0");
        drop(socket);
        let (mut early, mut late) = (Vec::new(), Vec::new());
        for turn in 0..50 {
            let deadline = host.after(100 + turn);
            assert_eq!(host.assume(&vip, deadline).await, done());
            let receiver = std::net::UdpSocket::bind("10.9.0.1:0").unwrap();
            receiver.set_nonblocking(true).unwrap();
            let sender = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            let to = receiver.local_addr().unwrap();
            let mut heard = host.clock.now();
            // Delivery over lo happens within the call that sends.
            while host.clock.now() < deadline + Duration::from_millis(20) {
                let sent = host.clock.now();
                sender.send_to(b"?", to).unwrap();
                if receiver.recv(&mut [0; 8]).is_ok() {
                    heard = sent;
                }
            }
            early.push(deadline.since(heard));
            late.push(heard.since(deadline));
        }
        print("silent before the deadline by", early);
        print("silent after the deadline by", late);
    });
}

#[test]
#[ignore = "a measurement"]
fn how_long_a_withdrawal_waits_behind_ten_thousand_additions() {
    on_a_host(|| async {
        let vips = many(10_000);
        let one = [on("lo", "10.9.0.1/32")];
        let configured = [vips.clone(), one.to_vec()].concat();
        let host = Host::start(Backstop::Fence, &configured);
        let deadline = host.after(600_000);
        let mut waited = Vec::new();
        assert_eq!(host.assume(&one, deadline).await, done());
        let assume = turnip_core::KernelOp::Assume { addresses: vips, deadline };
        let assume = host.kernel.perform(assume);
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_millis(150)).await;
            let start = Instant::now();
            host.withdraw(&one).await;
            waited.push(start.elapsed());
        }
        assume.await;
        print("a withdrawal behind 10,000 additions", waited);
    });
}

#[test]
#[ignore = "prints the tables as nft does"]
fn what_nft_says_of_the_fence() {
    on_a_host(|| async {
        let vips = [on("lo", "10.9.0.1/32"), on("lo", "fd09::1/128"), on("lo", "10.9.0.2/32")];
        let host = Host::start(Backstop::Fence, &vips);
        assert_eq!(host.assume(&vips[..2], host.after(3_000)).await, done());
        let ruleset = std::process::Command::new("nft").args(["list", "ruleset"]).output().unwrap();
        println!("{}", String::from_utf8_lossy(&ruleset.stdout));
    });
}
