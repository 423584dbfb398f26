//! The worker processes of a run, started again after their end as a supervisor would.
//!
//! Signals go to the process ids recorded at the start. Only the processes are observed, not their
//! admin ports.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, ChildStderr, Command};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::support::worker::TIME_LIMIT;

const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Delay before a worker that ended by itself is started again.
const RESTART_DELAY: Duration = Duration::from_secs(1);
/// How long after its start a worker may exit because a dependency is unavailable.
const START_LIMIT: Duration = Duration::from_secs(30);
/// The exit code of a worker whose dependency is unavailable.
const UNAVAILABLE: i32 = 69;

/// Counts of what happened to the workers.
#[derive(Debug, Clone, Default)]
pub(super) struct WorkerCounts {
    pub(super) kills: usize,
    /// SIGTERMs to running workers, the final stop included.
    pub(super) stops: usize,
    pub(super) rolling_restarts: usize,
    pub(super) pauses: usize,
    pub(super) freezes: usize,
    /// Starts that failed because broker or database was down (exit code 69).
    pub(super) failed_starts: usize,
    /// Other exits without a signal, and stops that failed or timed out.
    pub(super) unexpected_exits: Vec<String>,
}

enum WorkerState {
    Running(Child),
    Paused(Child, Instant),
    Down(Instant),
}

struct WorkerProcess {
    number: usize,
    state: WorkerState,
    since: Instant,
    log: WorkerLog,
    env: Vec<(String, String)>,
}

/// All workers.
pub(super) struct Workers {
    processes: Vec<WorkerProcess>,
    pub(super) counts: WorkerCounts,
}

impl Workers {
    /// Starts the workers; `env` returns the variables of worker n, logs go to `folder`.
    pub(super) fn start(
        workers: usize,
        folder: &std::path::Path,
        env: impl Fn(usize) -> Vec<(String, String)>,
    ) -> Self {
        let process = |number| {
            let file = folder.join(format!("worker-{number}.log"));
            File::create(&file).expect("a log file");
            let log = WorkerLog { file, ..WorkerLog::default() };
            let now = Instant::now();
            let mut process = WorkerProcess {
                number,
                state: WorkerState::Down(now),
                since: now,
                log,
                env: env(number),
            };
            process.launch();
            process
        };
        Self { processes: (0..workers).map(process).collect(), counts: WorkerCounts::default() }
    }

    /// Waits for this time and meanwhile resumes and restarts workers that are due.
    pub(super) async fn supervise(&mut self, time: Duration) {
        let until = Instant::now() + time;
        loop {
            for process in &mut self.processes {
                process.update(&mut self.counts);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            sleep(left.min(POLL_INTERVAL)).await;
        }
    }

    /// Kills (SIGKILL) worker `at` or the next one that is not down; it is restarted after `down`.
    pub(super) async fn kill(&mut self, at: usize, down: Duration) {
        let count = self.processes.len();
        let is_alive = |process: &WorkerProcess| !matches!(process.state, WorkerState::Down(_));
        let Some(index) =
            (at..at + count).map(|n| n % count).find(|n| is_alive(&self.processes[*n]))
        else {
            return;
        };
        self.processes[index].kill(down).await;
        self.counts.kills += 1;
    }

    /// Kills all workers at once.
    pub(super) async fn kill_all(&mut self, down: Duration) {
        for index in 0..self.processes.len() {
            self.kill(index, down).await;
        }
    }

    /// Pauses a worker (SIGSTOP) and resumes it (SIGCONT) after `time`; only one at a time.
    pub(super) fn pause(&mut self, at: usize, time: Duration) {
        if self.processes.iter().any(|process| matches!(process.state, WorkerState::Paused(..))) {
            return;
        }
        if self.processes[at].pause(time) {
            self.counts.pauses += 1;
        }
    }

    /// The same, counted on its own, and of several at a time if another one runs.
    pub(super) fn freeze(&mut self, at: usize, time: Duration) {
        let is_running =
            |process: &&WorkerProcess| matches!(process.state, WorkerState::Running(_));
        let running = self.processes.iter().filter(is_running).count();
        if (running > 1 || self.processes.len() == 1) && self.processes[at].pause(time) {
            self.counts.freezes += 1;
        }
    }

    /// Lets nobody read the log of this worker for this time.
    pub(super) fn stall_log(&mut self, at: usize, time: Duration) {
        *self.processes[at].log.stalled_until.lock() = Some(Instant::now() + time);
    }

    /// Stops (SIGTERM) and restarts one worker after the other.
    pub(super) async fn rolling_restart(&mut self) {
        for index in 0..self.processes.len() {
            self.processes[index].terminate(&mut self.counts).await;
            self.processes[index].state = WorkerState::Down(Instant::now());
            self.supervise(Duration::from_millis(500)).await;
        }
        self.counts.rolling_restarts += 1;
    }

    /// Resumes and starts all workers.
    pub(super) fn start_all(&mut self) {
        for process in &mut self.processes {
            match &mut process.state {
                WorkerState::Running(_) => {}
                WorkerState::Paused(_, until) | WorkerState::Down(until) => *until = Instant::now(),
            }
            process.update(&mut self.counts);
        }
    }

    /// Stops all workers.
    pub(super) async fn stop(&mut self) {
        for process in &mut self.processes {
            process.terminate(&mut self.counts).await;
        }
    }
}

impl WorkerCounts {
    /// How often a process stood still, so that it may have done what another one had done.
    pub(super) fn times_paused(&self) -> usize {
        self.pauses + self.freezes
    }
}

impl WorkerProcess {
    fn launch(&mut self) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_handoff"))
            .arg("run")
            .env_clear()
            .envs(self.env.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the worker starts");
        let reader = child.stderr.take().expect("the log is a pipe");
        self.log.readers.spawn(copy_log(
            reader,
            self.log.file.clone(),
            Arc::clone(&self.log.stalled_until),
        ));
        self.state = WorkerState::Running(child);
        self.since = Instant::now();
    }

    /// Resumes or restarts the worker if that is due, and records an exit.
    fn update(&mut self, counts: &mut WorkerCounts) {
        let now = Instant::now();
        match &mut self.state {
            WorkerState::Running(child) => {
                let Some(status) = child.try_wait().expect("a child can be waited for") else {
                    return;
                };
                self.state = WorkerState::Down(now + RESTART_DELAY);
                if status.code() == Some(UNAVAILABLE) && now < self.since + START_LIMIT {
                    counts.failed_starts += 1;
                } else {
                    counts
                        .unexpected_exits
                        .push(format!("worker {} ended by itself: {status}", self.number));
                }
            }
            WorkerState::Paused(_, until) if now >= *until => self.resume(),
            WorkerState::Down(until) if now >= *until => self.launch(),
            WorkerState::Paused(..) | WorkerState::Down(_) => {}
        }
    }

    async fn kill(&mut self, down: Duration) {
        if let WorkerState::Running(child) | WorkerState::Paused(child, _) = &mut self.state {
            child.kill().await.expect("a child can be killed");
            self.state = WorkerState::Down(Instant::now() + down);
        }
    }

    fn pause(&mut self, time: Duration) -> bool {
        match std::mem::replace(&mut self.state, WorkerState::Down(Instant::now())) {
            WorkerState::Running(child) if signal(&child, "STOP") => {
                self.state = WorkerState::Paused(child, Instant::now() + time);
                true
            }
            other => {
                self.state = other;
                false
            }
        }
    }

    fn resume(&mut self) {
        if let WorkerState::Paused(child, _) =
            std::mem::replace(&mut self.state, WorkerState::Down(Instant::now()))
        {
            signal(&child, "CONT");
            self.state = WorkerState::Running(child);
        }
    }

    /// Stops the worker (SIGTERM) and waits for its exit.
    async fn terminate(&mut self, counts: &mut WorkerCounts) {
        if matches!(self.state, WorkerState::Paused(..)) {
            self.resume();
        }
        let WorkerState::Running(child) = &mut self.state else { return };
        if !signal(child, "TERM") {
            return;
        }
        counts.stops += 1;
        let (number, started) = (self.number, Instant::now());
        let failure = match tokio::time::timeout(TIME_LIMIT, child.wait()).await {
            Ok(Ok(status)) if status.success() => None,
            Ok(status) => Some(format!("worker {number} was stopped and ended with {status:?}")),
            Err(_) => {
                child.kill().await.expect("a child can be killed");
                Some(format!("worker {number} did not stop in {:?}", started.elapsed()))
            }
        };
        counts.unexpected_exits.extend(failure);
        self.state = WorkerState::Down(Instant::now());
    }
}

/// The log of a worker, which is read from a pipe, as a container's is.
#[derive(Default)]
struct WorkerLog {
    file: PathBuf,
    stalled_until: Arc<Mutex<Option<Instant>>>,
    /// One for each start of the worker; they end with the pipe.
    readers: JoinSet<()>,
}

async fn copy_log(
    mut reader: ChildStderr,
    file: PathBuf,
    stalled_until: Arc<Mutex<Option<Instant>>>,
) {
    let mut file = OpenOptions::new().append(true).open(file).expect("the log file opens");
    let mut bytes = vec![0; 64 << 10];
    loop {
        let until = *stalled_until.lock();
        sleep_until(until.unwrap_or_else(Instant::now)).await;
        match reader.read(&mut bytes).await.expect("the pipe can be read") {
            0 => return,
            count => file.write_all(&bytes[..count]).expect("the log file can be written"),
        }
    }
}

/// Returns whether the process still existed.
fn signal(child: &Child, name: &str) -> bool {
    let Some(pid) = child.id() else { return false };
    let sent = std::process::Command::new("kill").args(["-s", name, &pid.to_string()]).status();
    sent.expect("kill runs").success()
}
