//! The workers: each in a slot, up, frozen or down, and started again as a supervisor does.
//!
//! They are signalled by the process ids that were recorded at their start.
//! This file never asks a worker how it feels: it only looks whether the process lives.

use std::fs::{File, OpenOptions};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use crate::support::worker::PATIENCE;

const TICK: Duration = Duration::from_millis(50);
/// A worker that ends by itself is started again after this.
const SUPERVISED: Duration = Duration::from_secs(1);
/// A start may be given up this long after it.
const START: Duration = Duration::from_secs(30);
/// The exit code for it.
const UNAVAILABLE: i32 = 69;

/// What has happened to the workers.
#[derive(Debug, Clone, Default)]
pub(super) struct Toll {
    pub(super) kills: usize,
    /// SIGTERMs to workers that were up, the last stop included.
    pub(super) stops: usize,
    pub(super) rolling_restarts: usize,
    pub(super) freezes: usize,
    /// Starts that were given up because the broker or the database was away (exit code 69).
    pub(super) vain_starts: usize,
    /// Other ends that nobody asked for, and stops that did not end well: what was seen.
    pub(super) odd_ends: Vec<String>,
}

enum State {
    Up(Child),
    Frozen(Child, Instant),
    Down(Instant),
}

struct Slot {
    number: usize,
    state: State,
    since: Instant,
    log: PathBuf,
    env: Vec<(String, String)>,
}

/// All workers.
pub(super) struct Fleet {
    slots: Vec<Slot>,
    pub(super) toll: Toll,
}

impl Fleet {
    /// `env` says how worker n is set up; logs go to the folder.
    pub(super) fn start(
        workers: usize,
        folder: &std::path::Path,
        env: impl Fn(usize) -> Vec<(String, String)>,
    ) -> Self {
        let slot = |number| {
            let log = folder.join(format!("worker-{number}.log"));
            File::create(&log).expect("a log file");
            let now = Instant::now();
            let mut slot =
                Slot { number, state: State::Down(now), since: now, log, env: env(number) };
            slot.launch();
            slot
        };
        Self { slots: (0..workers).map(slot).collect(), toll: Toll::default() }
    }

    /// Let time pass: thaw, start and supervise whatever is due.
    pub(super) async fn pass(&mut self, time: Duration) {
        let until = Instant::now() + time;
        loop {
            for slot in &mut self.slots {
                slot.look_after(&mut self.toll);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            sleep(left.min(TICK)).await;
        }
    }

    /// `kill -9` one that lives, if one does; it is started again after `down`.
    pub(super) async fn kill(&mut self, at: usize, down: Duration) {
        let slots = self.slots.len();
        let lives = |slot: &Slot| !matches!(slot.state, State::Down(_));
        let Some(slot) = (at..at + slots).map(|n| n % slots).find(|n| lives(&self.slots[*n]))
        else {
            return;
        };
        self.slots[slot].kill(down).await;
        self.toll.kills += 1;
    }

    /// `kill -9` all of them at once.
    pub(super) async fn kill_all(&mut self, down: Duration) {
        for slot in 0..self.slots.len() {
            self.kill(slot, down).await;
        }
    }

    /// SIGSTOP, and SIGCONT after `time`; one at a time.
    pub(super) fn freeze(&mut self, at: usize, time: Duration) {
        if self.slots.iter().any(|slot| matches!(slot.state, State::Frozen(..))) {
            return;
        }
        if self.slots[at].freeze(time) {
            self.toll.freezes += 1;
        }
    }

    /// SIGTERM each, wait for its end, start it again, and go on with the next.
    pub(super) async fn rolling_restart(&mut self) {
        for slot in 0..self.slots.len() {
            self.slots[slot].terminate(&mut self.toll).await;
            self.slots[slot].state = State::Down(Instant::now());
            self.pass(Duration::from_millis(500)).await;
        }
        self.toll.rolling_restarts += 1;
    }

    /// Everybody up.
    pub(super) fn all_up(&mut self) {
        for slot in &mut self.slots {
            match &mut slot.state {
                State::Up(_) => {}
                State::Frozen(_, until) | State::Down(until) => *until = Instant::now(),
            }
            slot.look_after(&mut self.toll);
        }
    }

    /// SIGTERM for all, and the end.
    pub(super) async fn stop(&mut self) {
        for slot in &mut self.slots {
            slot.terminate(&mut self.toll).await;
        }
    }
}

impl Slot {
    fn launch(&mut self) {
        let log = OpenOptions::new().append(true).open(&self.log).expect("the log file opens");
        let child = Command::new(env!("CARGO_BIN_EXE_handoff"))
            .arg("run")
            .env_clear()
            .envs(self.env.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .expect("the worker starts");
        self.state = State::Up(child);
        self.since = Instant::now();
    }

    /// What is due.
    fn look_after(&mut self, toll: &mut Toll) {
        let now = Instant::now();
        match &mut self.state {
            State::Up(child) => {
                let Some(status) = child.try_wait().expect("a child can be waited for") else {
                    return;
                };
                self.state = State::Down(now + SUPERVISED);
                if status.code() == Some(UNAVAILABLE) && now < self.since + START {
                    toll.vain_starts += 1;
                } else {
                    toll.odd_ends.push(format!("worker {} ended by itself: {status}", self.number));
                }
            }
            State::Frozen(_, until) if now >= *until => self.thaw(),
            State::Down(until) if now >= *until => self.launch(),
            State::Frozen(..) | State::Down(_) => {}
        }
    }

    async fn kill(&mut self, down: Duration) {
        if let State::Up(child) | State::Frozen(child, _) = &mut self.state {
            child.kill().await.expect("a child can be killed");
            self.state = State::Down(Instant::now() + down);
        }
    }

    fn freeze(&mut self, time: Duration) -> bool {
        match std::mem::replace(&mut self.state, State::Down(Instant::now())) {
            State::Up(child) if signal(&child, "STOP") => {
                self.state = State::Frozen(child, Instant::now() + time);
                true
            }
            other => {
                self.state = other;
                false
            }
        }
    }

    fn thaw(&mut self) {
        if let State::Frozen(child, _) =
            std::mem::replace(&mut self.state, State::Down(Instant::now()))
        {
            signal(&child, "CONT");
            self.state = State::Up(child);
        }
    }

    /// SIGTERM and the end; what was wrong with it is an odd end.
    async fn terminate(&mut self, toll: &mut Toll) {
        self.thaw();
        let State::Up(child) = &mut self.state else { return };
        if !signal(child, "TERM") {
            return;
        }
        toll.stops += 1;
        let (number, begun) = (self.number, Instant::now());
        let wrong = match tokio::time::timeout(PATIENCE, child.wait()).await {
            Ok(Ok(status)) if status.success() => None,
            Ok(status) => Some(format!("worker {number} was stopped and ended with {status:?}")),
            Err(_) => {
                child.kill().await.expect("a child can be killed");
                Some(format!("worker {number} did not stop in {:?}", begun.elapsed()))
            }
        };
        toll.odd_ends.extend(wrong);
        self.state = State::Down(Instant::now());
    }
}

/// False: it lives no more.
fn signal(child: &Child, name: &str) -> bool {
    let Some(pid) = child.id() else { return false };
    let sent = std::process::Command::new("kill").args(["-s", name, &pid.to_string()]).status();
    sent.expect("kill runs").success()
}
