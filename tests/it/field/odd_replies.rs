//! Replies of Desk that are right in substance and odd in form.
//!
//! Once a byte order mark, a cut character, GBK text, half an emoji or a compressed body was "no answer":
//! 8 transfers and 8 state queries for one event, `failed` after its whole time to live, and the gate
//! shut for all others.

use handoff::sim::desk::{
    ApiCommand, InjectedAnswer, InjectedFault, OddForm, SimulatedDeskSettings,
};
use serde_json::json;

use crate::support::worker::{World, by_event, escalation};

#[tokio::test(flavor = "multi_thread")]
async fn each_odd_reply_counts_after_one_call() {
    let world = World::new("odd-replies", 2, SimulatedDeskSettings::default()).await;
    let name = |form: OddForm| json!(form).as_str().expect("a word").to_owned();
    for form in OddForm::ALL {
        let (good, refused) = (name(form), format!("{}-refused", name(form)));
        world.desk.schedule(InjectedFault::odd(form).session(&good).times(0));
        let odd = InjectedAnswer::Odd { form, code: Some(141_004) };
        world.desk.schedule(InjectedFault::answering(odd).session(&refused).times(0));
    }
    let worker = world.process();
    let ids =
        OddForm::ALL.iter().flat_map(|form| [name(*form), format!("{}-refused", name(*form))]);
    world.publish(ids.map(|id| escalation(&id, &id))).await;
    let answered = by_event(world.outcomes(2 * OddForm::ALL.len()).await);
    for form in OddForm::ALL {
        let good = &answered[&name(form)];
        assert_eq!((&good["status"], &good["attempts"]), (&json!("assigned"), &json!(1)), "{good}");
        assert!(good["agent_id"].is_string(), "{good}");
        let refused = &answered[&format!("{}-refused", name(form))];
        assert_eq!(refused["status"], "rejected", "{refused}");
        assert_eq!((&refused["desk"]["code"], &refused["attempts"]), (&json!(141_004), &json!(1)));
    }
    for form in [OddForm::CutCharacter, OddForm::Gbk, OddForm::LoneSurrogate] {
        let info = answered[&name(form)]["desk"]["info"].as_str().expect("a text");
        assert!(info.contains('\u{fffd}'), "{form:?}: {info}");
    }
    let stats = world.desk.stats();
    assert_eq!(stats.of(ApiCommand::State).calls, 0, "nothing was in doubt");
    assert_eq!(stats.of(ApiCommand::Transfer).calls, 2 * OddForm::ALL.len() as u64);
    assert!(!worker.log().contains("gate shut"), "{}", worker.log());
    worker.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_odd_reply_to_a_state_query_counts_too() {
    let mut world = World::new("odd-states", 1, SimulatedDeskSettings::default()).await;
    world.set("DESK__SETTLE_MS", "500");
    for form in OddForm::ALL {
        let session = json!(form).as_str().expect("a word").to_owned();
        let state = InjectedFault::odd(form).commands(&[ApiCommand::State]);
        world.desk.schedule(state.session(&session).times(0));
        world.desk.schedule(InjectedFault::lost_answer().session(&session));
    }
    let worker = world.process();
    let ids = OddForm::ALL.map(|form| json!(form).as_str().expect("a word").to_owned());
    world.publish(ids.iter().map(|id| escalation(id, id))).await;
    let answered = by_event(world.outcomes(ids.len()).await);
    for outcome in answered.values() {
        assert_eq!(outcome["status"], "assigned", "{outcome}");
        assert_eq!(outcome["confirmed_by"], "session_state", "{outcome}");
        assert_eq!(outcome["attempts"], 1, "{outcome}");
    }
    worker.terminate().await;
}
