//! The limit per second, the bounds and the JSON of the counts.

use super::*;

#[tokio::test(start_paused = true)]
async fn the_limit_applies_to_any_second_not_only_whole_ones() {
    let counters = Counters::new(2, 0);
    let begin = || counters.begin(ApiCommand::Transfer, Instant::now()).is_ok();
    tokio::time::advance(Duration::from_millis(900)).await;
    assert_eq!((begin(), begin(), begin()), (true, true, false));
    tokio::time::advance(Duration::from_millis(200)).await;
    assert!(!begin());
    let state_query = counters.begin(ApiCommand::State, Instant::now());
    assert_eq!(state_query, Ok(()), "each command has its own limit");
    tokio::time::advance(Duration::from_millis(800)).await;
    assert!(begin());
    let stats = counters.stats(Instant::now()).of(ApiCommand::Transfer);
    let seconds: Vec<_> = stats.per_second.iter().map(|s| (s.second, s.calls)).collect();
    assert_eq!((seconds, stats.max_per_second), (vec![(0, 3), (1, 2)], 3));
}

#[test]
fn randoms_are_remembered_up_to_a_bound() {
    let counters = Counters::new(0, 0);
    for random in 0..RANDOMS_KEPT as u32 + 1 {
        counters.count_random(random);
    }
    counters.count_random(0);
    counters.count_random(RANDOMS_KEPT as u32);
    assert_eq!(counters.stats(Instant::now()).duplicate_randoms, 1);
}

#[test]
fn stats_survive_a_round_trip_through_json() {
    let counters = Counters::new(0, 1);
    counters.begin(ApiCommand::Transfer, Instant::now()).unwrap();
    counters.end(ApiCommand::Transfer, CallEnd::Code(141001), Duration::ZERO);
    let stats = counters.stats(Instant::now());
    let json = serde_json::to_string(&stats).unwrap();
    assert_eq!(serde_json::from_str::<DeskStats>(&json).unwrap(), stats);
    assert_eq!(stats.code(ApiCommand::Transfer, 141001), 1);
}
