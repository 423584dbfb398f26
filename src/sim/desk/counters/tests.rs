//! The limit, the bounds and the JSON of the counts.
//!
//! They are kept beside the file they test because they use its private parts. Tests here never
//! open a socket.

use super::*;

#[tokio::test(start_paused = true)]
async fn the_limit_counts_any_second_not_the_clock_s() {
    let counters = Counters::new(2, 0);
    let begin = || !counters.begin(Command::Transfer, Instant::now());
    tokio::time::advance(Duration::from_millis(900)).await;
    assert_eq!((begin(), begin(), begin()), (true, true, false));
    tokio::time::advance(Duration::from_millis(200)).await;
    assert!(!begin());
    assert!(!counters.begin(Command::State, Instant::now()), "each command has its own limit");
    tokio::time::advance(Duration::from_millis(800)).await;
    assert!(begin());
    let stats = counters.stats(Instant::now()).of(Command::Transfer);
    let seconds: Vec<_> = stats.per_second.iter().map(|s| (s.second, s.calls)).collect();
    assert_eq!((seconds, stats.max_per_second), (vec![(0, 3), (1, 2)], 3));
}

#[test]
fn randoms_are_remembered_up_to_a_bound() {
    let counters = Counters::new(0, 0);
    for random in 0..RANDOMS_KEPT as u32 + 1 {
        counters.saw_random(random);
    }
    counters.saw_random(0);
    counters.saw_random(RANDOMS_KEPT as u32);
    assert_eq!(counters.stats(Instant::now()).duplicate_randoms, 1);
}

#[test]
fn stats_survive_json() {
    let counters = Counters::new(0, 1);
    counters.begin(Command::Transfer, Instant::now());
    counters.end(Command::Transfer, Sent::Code(141001), Duration::ZERO);
    let stats = counters.stats(Instant::now());
    let json = serde_json::to_string(&stats).unwrap();
    assert_eq!(serde_json::from_str::<Stats>(&json).unwrap(), stats);
    assert_eq!(stats.code(Command::Transfer, 141001), 1);
}
