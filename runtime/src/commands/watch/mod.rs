//! `turnip watch`: the tables of `turnip status`, live on a terminal.

mod board;
mod followed;
mod view;

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::MissedTickBehavior;
use turnip::config::{Reach, Sources};

use super::cluster::{Cluster, block_on};
use super::{FAILED, OK, fail};
use board::{Board, Flow, Key};
use followed::Followed;

/// What its help ends with.
pub const AFTER_HELP: &str = "\
Keys: q, Esc or Ctrl-C quit; Tab goes to the other table; s sorts it by the next column, r the other \
way round; the arrows, Page Up and Page Down scroll. What has changed within the last ten seconds \
has a star and another colour. It follows etcd, and asks once a second whether that is still there: while \
it is not, the tables stay as they were, for who holds what is not known then.";

/// Ages are shown anew so often.
const TICK: Duration = Duration::from_millis(500);

/// Shows the cluster until the operator has seen enough.
pub fn watch(sources: &Sources) -> ExitCode {
    let reach = match Reach::load(sources) {
        Ok(reach) => reach,
        Err(problems) => return super::refuse(&problems),
    };
    if !io::stdout().is_terminal() {
        return fail(FAILED, "this is no terminal: `turnip status` prints the same once");
    }
    let shown = block_on(async {
        let cluster = Cluster::new(&reach)?;
        let mut terminal = ratatui::try_init().map_err(|error| format!("the terminal: {error}"))?;
        let board = Board::new(reach.cluster.as_str(), &reach.etcd.endpoints);
        let shown = show(&cluster, board, &mut terminal).await;
        ratatui::restore();
        shown.map_err(|error| format!("the terminal: {error}"))
    });
    match shown.flatten() {
        Ok(()) => ExitCode::from(OK),
        Err(why) => fail(FAILED, why),
    }
}

async fn show(
    cluster: &Cluster,
    mut board: Board,
    terminal: &mut DefaultTerminal,
) -> io::Result<()> {
    let (tell, mut told) = unbounded_channel();
    let follow = cluster.follow(tell);
    tokio::pin!(follow);
    let (answer, mut answers) = unbounded_channel();
    let ask = cluster.ask_again(answer);
    tokio::pin!(ask);
    let mut keys = keys();
    let mut ends = [SignalKind::terminate(), SignalKind::hangup()].map(signal);
    let [Ok(terminate), Ok(hang_up)] = &mut ends else {
        return Err(io::Error::other("signals cannot be waited for"));
    };
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut followed = Followed::default();
    loop {
        tokio::select! {
            () = &mut follow => {}
            () = &mut ask => {}
            Some(update) = told.recv() => {
                followed.told(&cluster.keys, update, Instant::now());
                // A burst of news is one picture.
                while let Ok(update) = told.try_recv() {
                    followed.told(&cluster.keys, update, Instant::now());
                }
            }
            Some(asked) = answers.recv() => followed.asked(&cluster.keys, asked),
            key = keys.recv() => match key.map(|key| board.press(key)) {
                None | Some(Flow::Quit) => return Ok(()),
                Some(Flow::Stay) => {}
            },
            _ = ticks.tick() => {}
            _ = terminate.recv() => return Ok(()),
            _ = hang_up.recv() => return Ok(()),
        }
        let now = Instant::now();
        followed.show(&cluster.keys, &mut board, now);
        terminal.draw(|frame| view::draw(&mut board, frame, now))?;
    }
}

/// What is typed. It is read by a thread, which ends with the process.
fn keys() -> UnboundedReceiver<Key> {
    let (tell, keys) = unbounded_channel();
    std::thread::spawn(move || {
        while let Ok(event) = event::read() {
            let key = match event {
                Event::Key(key) if key.is_press() => Key::Pressed(key.code, key.modifiers),
                Event::Resize(..) => Key::Resized,
                _ => continue,
            };
            if tell.send(key).is_err() {
                return;
            }
        }
    });
    keys
}
