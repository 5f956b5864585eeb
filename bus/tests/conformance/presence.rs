//! Who is online, and who is in which room: found once, told once, whoever looks.

use std::collections::BTreeMap;

use bus::{
    Attendance, Attended, Bus, Error, NotJoined, Overflow, Presence, Queue, Room,
    presence::{self, Crowded, MOST_CONNECTIONS, Move, Scope, Step, Told},
};
use events::Name;
use tokio_util::sync::CancellationToken;

use super::{Lab, eventually, seconds};

fn step(what: Move, scope: &Scope, user: &str, connection: &str) -> Step {
    Step { what, scope: scope.clone(), user: user.to_owned(), connection: connection.to_owned() }
}

fn enters(user: &str, connection: &str) -> Step {
    step(Move::Enter, &Scope::Bus, user, connection)
}

async fn tell(bus: &Bus, node: &str, steps: Vec<Step>) -> Attended {
    let queue = steps.first().map_or_else(presence::presence, |step| step.scope.queue());
    bus.attend(&queue, 0, Told { node: node.to_owned(), steps }).await.unwrap()
}

/// So many seconds, in each of which the nodes tell that they live.
async fn pass(lab: &impl Lab, nodes: &[&str], count: u64) {
    let bus = lab.bus();
    for _ in 0..count {
        lab.let_pass(seconds(1));
        for node in nodes {
            for queue in [presence::presence(), presence::rooms()] {
                while bus.attend(&queue, 0, Told { node: (*node).to_owned(), steps: Vec::new() }).await.unwrap().more {}
            }
        }
    }
}

/// What the log says: (event, user), and of a departure its reason.
async fn told(bus: &Bus, queue: &Name) -> Vec<(String, String, Option<String>)> {
    let mut all = Vec::new();
    let mut from = 1;
    loop {
        let page = bus.read(queue, 0, from, 1000).await.unwrap();
        let Some(last) = page.events.last() else { return all };
        from = last.position + 1;
        for logged in &page.events {
            let data = logged.envelope.json().unwrap();
            let text = |field: &str| data[field].as_str().map(str::to_owned);
            all.push((logged.envelope.event.to_string(), text("user").unwrap(), text("reason")));
        }
    }
}

fn said(event: &str, user: &str, reason: Option<&str>) -> (String, String, Option<String>) {
    (event.to_owned(), user.to_owned(), reason.map(str::to_owned))
}

async fn look(bus: &Bus, user: &str) -> Presence {
    bus.online(&[user.to_owned()]).await.unwrap().remove(0)
}

pub(crate) async fn the_first_device_is_online_and_the_last_one_offline(lab: impl Lab) {
    let bus = lab.bus();
    assert!(!look(&bus, "alice").await.online, "nobody ever was");
    tell(&bus, "a", vec![enters("alice", "c1")]).await;
    let since = look(&bus, "alice").await.since;
    pass(&lab, &["a", "b"], 2).await;
    tell(&bus, "b", vec![enters("alice", "c2")]).await;
    let shown = look(&bus, "alice").await;
    assert_eq!((shown.online, shown.connections, shown.since, shown.last_seen), (true, 2, since, None));
    tell(&bus, "a", vec![step(Move::Leave, &Scope::Bus, "alice", "c1")]).await;
    assert_eq!(look(&bus, "alice").await.connections, 1);
    tell(&bus, "b", vec![step(Move::Leave, &Scope::Bus, "alice", "c2")]).await;
    let shown = look(&bus, "alice").await;
    assert_eq!((shown.online, shown.connections, shown.since), (false, 0, None));
    assert!(shown.last_seen > since, "it is remembered when: {shown:?}");
    let all = [said("ONLINE", "alice", None), said("OFFLINE", "alice", Some("bye"))];
    assert_eq!(told(&bus, &presence::presence()).await, all);
    let page = bus.read(&presence::presence(), 0, 1, 10).await.unwrap();
    assert!(page.events.iter().all(|logged| {
        let of = &logged.envelope;
        (of.key(), of.owner.as_deref(), of.sequence) == ("alice", Some("alice"), Some(logged.position))
    }));
}

pub(crate) async fn a_connection_that_is_cut_counts_for_its_grace(lab: impl Lab) {
    let bus = lab.bus();
    tell(&bus, "a", vec![enters("alice", "c1"), enters("bob", "c2")]).await;
    let cut = |user: &str, connection: &str| step(Move::Cut, &Scope::Bus, user, connection);
    tell(&bus, "a", vec![cut("alice", "c1"), cut("bob", "c2")]).await;
    pass(&lab, &["a"], 14).await;
    let shown = look(&bus, "alice").await;
    assert_eq!((shown.online, shown.connections), (true, 0), "its grace isn't over");
    assert!(shown.last_seen.is_some());
    tell(&bus, "b", vec![enters("bob", "c3")]).await;
    pass(&lab, &["a", "b"], 3).await;
    assert!(!look(&bus, "alice").await.online);
    assert!(look(&bus, "bob").await.online, "who came back was never away");
    pass(&lab, &["a", "b"], 30).await;
    let all = [said("ONLINE", "alice", None), said("ONLINE", "bob", None), said("OFFLINE", "alice", Some("lost"))];
    assert_eq!(told(&bus, &presence::presence()).await, all);
}

pub(crate) async fn one_that_was_lost_counts_though_another_one_left(lab: impl Lab) {
    let bus = lab.bus();
    tell(&bus, "a", vec![enters("alice", "c1"), enters("alice", "c2")]).await;
    tell(&bus, "a", vec![step(Move::Cut, &Scope::Bus, "alice", "c1")]).await;
    tell(&bus, "a", vec![step(Move::Leave, &Scope::Bus, "alice", "c2")]).await;
    assert!(look(&bus, "alice").await.online, "that may come back");
    pass(&lab, &["a"], 16).await;
    assert_eq!(told(&bus, &presence::presence()).await[1..], [said("OFFLINE", "alice", Some("lost"))]);
}

pub(crate) async fn two_devices_at_two_nodes_are_one_user(lab: impl Lab) {
    let bus = lab.bus();
    tell(&bus, "a", vec![enters("alice", "c1")]).await;
    tell(&bus, "b", vec![enters("alice", "c2")]).await;
    // The first one's node dies.
    pass(&lab, &["b"], 30).await;
    let shown = look(&bus, "alice").await;
    assert_eq!((shown.online, shown.connections), (true, 1), "by the other one");
    tell(&bus, "b", vec![step(Move::Leave, &Scope::Bus, "alice", "c2")]).await;
    let by_now = [said("ONLINE", "alice", None), said("OFFLINE", "alice", Some("bye"))];
    assert_eq!(told(&bus, &presence::presence()).await, by_now, "at once, and once");

    tell(&bus, "a", vec![enters("alice", "c3")]).await;
    tell(&bus, "b", vec![enters("alice", "c4")]).await;
    tell(&bus, "a", vec![step(Move::Cut, &Scope::Bus, "alice", "c3")]).await;
    pass(&lab, &["a", "b"], 5).await;
    tell(&bus, "b", vec![step(Move::Cut, &Scope::Bus, "alice", "c4")]).await;
    pass(&lab, &["a", "b"], 14).await;
    assert!(look(&bus, "alice").await.online, "the one that was lost last counts");
    pass(&lab, &["a", "b"], 20).await;
    let since = [said("ONLINE", "alice", None), said("OFFLINE", "alice", Some("lost"))];
    assert_eq!(told(&bus, &presence::presence()).await[2..], since);
}

pub(crate) async fn who_always_comes_back_in_time_was_never_away(lab: impl Lab) {
    let bus = lab.bus();
    let mut here = ("a", "c0".to_owned());
    tell(&bus, here.0, vec![enters("alice", &here.1)]).await;
    for number in 1..10 {
        tell(&bus, here.0, vec![step(Move::Cut, &Scope::Bus, "alice", &here.1)]).await;
        pass(&lab, &["a", "b"], 10).await;
        here = (if number % 2 == 0 { "a" } else { "b" }, format!("c{number}"));
        tell(&bus, here.0, vec![enters("alice", &here.1)]).await;
    }
    pass(&lab, &["a", "b"], 30).await;
    assert_eq!(told(&bus, &presence::presence()).await, [said("ONLINE", "alice", None)]);
    assert_eq!(look(&bus, "alice").await.connections, 1);
}

pub(crate) async fn a_clock_that_steps_back_ends_and_prolongs_nothing(lab: impl Lab) {
    let bus = lab.bus();
    tell(&bus, "a", vec![enters("alice", "c1"), enters("bob", "c2")]).await;
    tell(&bus, "a", vec![step(Move::Cut, &Scope::Bus, "alice", "c1")]).await;
    pass(&lab, &["a"], 7).await;
    lab.step_back(seconds(3600));
    pass(&lab, &["a"], 7).await;
    assert!(look(&bus, "alice").await.online);
    pass(&lab, &["a"], 3).await;
    assert!(!look(&bus, "alice").await.online);
    assert!(look(&bus, "bob").await.online);
    assert_eq!(told(&bus, &presence::presence()).await.len(), 3);
}

pub(crate) async fn the_grace_of_a_silent_node_begins_with_its_last_word(lab: impl Lab) {
    let bus = lab.bus();
    tell(&bus, "a", vec![enters("alice", "c1"), enters("bob", "c2")]).await;
    pass(&lab, &["b"], 14).await;
    let shown = look(&bus, "alice").await;
    assert_eq!((shown.online, shown.connections), (true, 0));
    let heard = shown.last_seen.unwrap() - shown.since.unwrap();
    assert!(heard <= time::Duration::seconds(2), "{shown:?}");
    // It only slept, and is back in time.
    assert!(!tell(&bus, "a", vec![enters("bob", "c2")]).await.known, "what it told before counts no longer");
    pass(&lab, &["a", "b"], 2).await;
    assert!(!look(&bus, "alice").await.online, "not a whole grace after that was noticed");
    pass(&lab, &["a", "b"], 20).await;
    let all = [said("ONLINE", "alice", None), said("ONLINE", "bob", None), said("OFFLINE", "alice", Some("lost"))];
    assert_eq!(told(&bus, &presence::presence()).await, all);
}

pub(crate) async fn a_node_that_slept_is_unknown_though_not_all_of_it_was_found(lab: impl Lab) {
    let bus = lab.bus();
    let users: Vec<String> = (0..300).map(|n| format!("users/{n}")).collect();
    for part in users.chunks(Told::MOST) {
        tell(&bus, "a", part.iter().map(|user| enters(user, &format!("c{user}"))).collect()).await;
    }
    let mut found = Attended::default();
    for _ in 0..6 {
        lab.let_pass(seconds(1));
        found = tell(&bus, "b", Vec::new()).await;
    }
    assert!(found.more, "a piece of it was");
    assert!(!tell(&bus, "a", Vec::new()).await.known);
    assert!(tell(&bus, "a", Vec::new()).await.known);
}

pub(crate) async fn what_is_told_again_changes_nothing(lab: impl Lab) {
    let bus = lab.bus();
    let first = tell(&bus, "a", vec![enters("alice", "c1")]).await;
    assert!(!first.known && first.lineage != 0);
    let again = tell(&bus, "a", vec![enters("alice", "c1"), enters("bob", "c2")]).await;
    assert_eq!((again.known, again.more, again.there, again.lineage), (true, false, 2, first.lineage));
    tell(&bus, "a", vec![step(Move::Leave, &Scope::Bus, "carol", "c9"), step(Move::Cut, &Scope::Bus, "bob", "c9")])
        .await;
    tell(&bus, "b", vec![step(Move::Leave, &Scope::Bus, "alice", "c1")]).await;
    pass(&lab, &["a"], 20).await;
    assert_eq!(look(&bus, "alice").await.connections, 1, "another node's connection");
    assert_eq!(told(&bus, &presence::presence()).await.len(), 2);
}

pub(crate) async fn a_node_that_falls_silent_takes_its_own_along(lab: impl Lab) {
    let bus = lab.bus();
    let users: Vec<String> = (0..1000).map(|n| format!("users/{n}")).collect();
    for part in users.chunks(Told::MOST) {
        tell(&bus, "a", part.iter().map(|user| enters(user, &format!("c{user}"))).collect()).await;
    }
    assert_eq!(tell(&bus, "b", vec![enters("bob", "c0")]).await.there, 1001);
    pass(&lab, &["a", "b"], 10).await;
    // From now on it says nothing. Some come back elsewhere, before it is noticed and after.
    pass(&lab, &["b"], 3).await;
    tell(&bus, "b", users[..100].iter().map(|user| enters(user, &format!("d{user}"))).collect()).await;
    pass(&lab, &["b"], 10).await;
    tell(&bus, "b", users[100..200].iter().map(|user| enters(user, &format!("d{user}"))).collect()).await;
    assert_eq!(told(&bus, &presence::presence()).await.len(), 1001, "nobody's grace is over");
    assert_eq!(look(&bus, "users/500").await.connections, 0, "but it is known");
    pass(&lab, &["b", "c"], 15).await;
    let mut departed: BTreeMap<String, usize> = BTreeMap::new();
    for (event, user, reason) in told(&bus, &presence::presence()).await.split_off(1001) {
        assert_eq!((event.as_str(), reason.as_deref()), ("OFFLINE", Some("lost")));
        *departed.entry(user).or_default() += 1;
    }
    assert!(departed.values().all(|times| *times == 1), "each once");
    let expected: Vec<&String> = users[200..].iter().collect();
    let mut gone: Vec<&String> = departed.keys().collect();
    gone.sort_by_key(|user| users.iter().position(|known| known == *user));
    assert_eq!(gone, expected, "and nobody who went over");
    // Should it only have slept, it hears that it is unknown, and tells all again.
    assert!(!tell(&bus, "a", vec![enters("users/999", "cusers/999")]).await.known);
    assert!(look(&bus, "users/999").await.online);
}

pub(crate) async fn time_in_which_nobody_tells_counts_for_nobody(lab: impl Lab) {
    let bus = lab.bus();
    tell(&bus, "a", vec![enters("alice", "c1"), enters("bob", "c2")]).await;
    tell(&bus, "a", vec![step(Move::Cut, &Scope::Bus, "bob", "c2")]).await;
    lab.let_pass(seconds(3600));
    assert!(tell(&bus, "b", Vec::new()).await.lineage != 0);
    assert!(look(&bus, "bob").await.online, "nobody could come back");
    assert!(tell(&bus, "a", vec![enters("alice", "c1")]).await.known, "nor tell that it lives");
    pass(&lab, &["a", "b"], 16).await;
    assert_eq!(told(&bus, &presence::presence()).await[2..], [said("OFFLINE", "bob", Some("lost"))]);
}

pub(crate) async fn who_is_present_is_known_after_a_restart(mut lab: impl Lab) {
    let bus = lab.bus();
    tell(&bus, "a", vec![enters("alice", "c1"), enters("bob", "c2")]).await;
    drop(bus);
    lab.kill_and_reopen().await;
    let bus = lab.bus();
    pass(&lab, &["b"], 1).await;
    assert!(look(&bus, "alice").await.online && look(&bus, "bob").await.online);
    tell(&bus, "b", vec![enters("bob", "c3")]).await;
    pass(&lab, &["b"], 30).await;
    let all = told(&bus, &presence::presence()).await;
    assert_eq!(all[2..], [said("OFFLINE", "alice", Some("lost"))], "whoever was connected to what is gone");
}

pub(crate) async fn a_room_tells_who_comes_and_goes(lab: impl Lab) {
    let bus = lab.bus();
    let lobby: Room = "chat/lobby".parse().unwrap();
    let there = Scope::Room(lobby.clone());
    let members = async || {
        let members = bus.members(&lobby, None, 100).await.unwrap();
        let mut users: Vec<(String, usize)> =
            members.members.into_iter().map(|member| (member.user, member.connections)).collect();
        users.sort();
        (users, members.count)
    };
    assert_eq!(members().await, (Vec::new(), 0));
    assert!(bus.last_in(&lobby).await.unwrap().is_none());
    let enter = |user: &str, connection: &str| step(Move::Enter, &there, user, connection);
    tell(&bus, "a", vec![enter("alice", "c1"), enter("alice", "c2"), enter("bob \"b\" \u{e4}", "c3")]).await;
    let elsewhere = Scope::Room("chat/quiet".parse().unwrap());
    assert_eq!(tell(&bus, "a", vec![step(Move::Enter, &elsewhere, "alice", "c1")]).await.there, 2, "rooms");
    assert_eq!(members().await, (vec![("alice".to_owned(), 2), ("bob \"b\" \u{e4}".to_owned(), 1)], 2));
    tell(&bus, "a", vec![step(Move::Leave, &there, "alice", "c1"), step(Move::Cut, &there, "bob \"b\" \u{e4}", "c3")])
        .await;
    tell(&bus, "a", vec![step(Move::Leave, &there, "alice", "c2")]).await;
    assert_eq!(members().await, (vec![("bob \"b\" \u{e4}".to_owned(), 0)], 1));
    pass(&lab, &["a"], 16).await;
    assert_eq!(members().await, (Vec::new(), 0));
    let all = told(&bus, &presence::rooms()).await;
    assert_eq!(
        all,
        [
            said("JOINED", "alice", None),
            said("JOINED", "bob \"b\" \u{e4}", None),
            said("JOINED", "alice", None),
            said("LEFT", "alice", Some("bye")),
            said("LEFT", "bob \"b\" \u{e4}", Some("lost")),
        ]
    );
    let last = bus.last_in(&lobby).await.unwrap().unwrap();
    assert_eq!((last.envelope.event.as_str(), last.envelope.key()), ("LEFT", "chat/lobby"));
    assert!(told(&bus, &presence::presence()).await.is_empty(), "a room is not the bus");
}

pub(crate) async fn a_full_room_is_listed_page_by_page(lab: impl Lab) {
    let bus = lab.bus();
    let hall: Room = "chat/hall".parse().unwrap();
    let there = Scope::Room(hall.clone());
    let users: Vec<String> = (0..500).map(|n| format!("users/{n:03}")).collect();
    for part in users.chunks(Told::MOST) {
        // As long as those of a process are: Redis keeps small ones in a form that it tells of at once.
        let connection = "c".repeat(64);
        tell(&bus, "a", part.iter().map(|user| step(Move::Enter, &there, user, &connection)).collect()).await;
    }
    let (mut listed, mut after, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = bus.members(&hall, after.as_deref(), 100).await.unwrap();
        assert_eq!(page.count, 500);
        listed.extend(page.members.into_iter().map(|member| member.user));
        pages += 1;
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    listed.sort();
    listed.dedup();
    assert_eq!(listed, users);
    assert!(pages > 1, "{pages}");
}

pub(crate) async fn a_user_has_so_many_connections(lab: impl Lab) {
    let bus = lab.bus();
    let steps: Vec<Step> = (0..=MOST_CONNECTIONS).map(|n| enters("alice", &format!("c{n}"))).collect();
    let outcomes = tell(&bus, "a", steps).await.outcomes;
    assert_eq!(outcomes.last(), Some(&Err(Crowded::Connections)));
    assert!(outcomes[..MOST_CONNECTIONS].iter().all(Result::is_ok));
    assert_eq!(look(&bus, "alice").await.connections, MOST_CONNECTIONS);
    tell(&bus, "a", vec![step(Move::Leave, &Scope::Bus, "alice", "c0")]).await;
    assert_eq!(tell(&bus, "a", vec![enters("alice", "late")]).await.outcomes, [Ok(())]);
}

pub(crate) async fn a_process_tells_who_is_connected_to_it(lab: impl Lab) {
    let bus = lab.bus();
    let (attendance, stop) = (Attendance::new(bus.clone()), CancellationToken::new());
    let running = tokio::spawn(attendance.clone().run(stop.clone()));
    let lobby: Room = "chat/lobby".parse().unwrap();
    let (phone, laptop) = (attendance.come("alice", "c_1"), attendance.come("alice", "c_2"));
    let bob = attendance.come("bob", "c_3");
    attendance.join("c_1", &lobby).await.unwrap();
    attendance.join("c_3", &lobby).await.unwrap();
    assert_eq!(bus.members(&lobby, None, 10).await.unwrap().count, 2, "it is known once it is answered");
    let absent = attendance.join("c_9", &lobby).await;
    assert!(matches!(absent, Err(NotJoined::Absent)), "{absent:?}");
    eventually("both are online", async || {
        look(&bus, "alice").await.connections == 2 && look(&bus, "bob").await.online
    })
    .await;
    attendance.leave("c_3", &lobby).await.unwrap();
    assert_eq!(bus.members(&lobby, None, 10).await.unwrap().count, 1);
    attendance.leave("c_3", &lobby).await.unwrap();
    bob.bye();
    eventually("who said bye is offline", async || !look(&bus, "bob").await.online).await;
    phone.bye();
    eventually("a connection takes its rooms along", async || {
        bus.members(&lobby, None, 10).await.unwrap().count == 0 && look(&bus, "alice").await.connections == 1
    })
    .await;
    drop(laptop);
    eventually("a cut is told", async || look(&bus, "alice").await.connections == 0).await;
    assert!(look(&bus, "alice").await.online);
    let _late = attendance.come("carol", "c_4");
    stop.cancel();
    running.await.unwrap();
    assert!(look(&bus, "carol").await.online, "what is new is told at the end");
    let all = told(&bus, &presence::rooms()).await;
    let expected = [("JOINED", "alice"), ("JOINED", "bob"), ("LEFT", "bob"), ("LEFT", "alice")];
    assert!(all.iter().map(|(event, user, _)| (event.as_str(), user.as_str())).eq(expected), "{all:?}");
}

/// As two polls of one user are, which one event wakes.
pub(crate) async fn several_come_into_a_room_by_one_connection(lab: impl Lab) {
    let bus = lab.bus();
    let (attendance, stop) = (Attendance::new(bus.clone()), CancellationToken::new());
    let lobby: Room = "chat/lobby".parse().unwrap();
    let (one, other) = (attendance.come("alice", "c_1"), attendance.come("alice", "c_1"));
    let running = tokio::spawn(attendance.clone().run(stop.clone()));
    let gives_up = tokio::time::timeout(std::time::Duration::ZERO, attendance.join("c_1", &lobby));
    let (_, first, second) = tokio::join!(gives_up, attendance.join("c_1", &lobby), attendance.join("c_1", &lobby));
    first.unwrap();
    second.unwrap();
    assert_eq!(bus.members(&lobby, None, 10).await.unwrap().count, 1, "who gave up puts nobody else out");
    attendance.join("c_1", &lobby).await.unwrap();
    drop(one);
    assert_eq!(bus.members(&lobby, None, 10).await.unwrap().count, 1);
    other.bye();
    eventually("the last one takes it along", async || bus.members(&lobby, None, 10).await.unwrap().count == 0).await;
    stop.cancel();
    running.await.unwrap();
    let all = told(&bus, &presence::rooms()).await;
    assert!(
        all.iter().map(|(event, user, _)| (event.as_str(), user.as_str())).eq([("JOINED", "alice"), ("LEFT", "alice")]),
        "{all:?}"
    );
}

/// As two polls of one user are that follow different things.
pub(crate) async fn a_room_is_left_with_the_last_one_that_is_in_it(lab: impl Lab) {
    let bus = lab.bus();
    let (attendance, stop) = (Attendance::new(bus.clone()), CancellationToken::new());
    let running = tokio::spawn(attendance.clone().run(stop.clone()));
    let (lobby, hall): (Room, Room) = ("chat/lobby".parse().unwrap(), "chat/hall".parse().unwrap());
    let connected = async |room: &Room| {
        let members = bus.members(room, None, 10).await.unwrap().members;
        members.first().map(|member| member.connections)
    };
    let _elsewhere = attendance.come("alice", "p_1");
    let (mut one, mut other) = (attendance.come("alice", "p_1"), attendance.come("alice", "p_1"));
    one.join(&lobby).await.unwrap();
    one.join(&lobby).await.unwrap();
    other.join(&lobby).await.unwrap();
    other.join(&hall).await.unwrap();
    drop(one);
    assert_eq!(connected(&lobby).await, Some(1), "the other one is in it");
    drop(other);
    eventually("it was cut from both", async || {
        connected(&lobby).await == Some(0) && connected(&hall).await == Some(0)
    })
    .await;
    let mut again = attendance.come("alice", "p_1");
    again.join(&lobby).await.unwrap();
    assert_eq!(connected(&lobby).await, Some(1));
    pass(&lab, &[&format!("{}.0", bus.roster().node())], 16).await;
    eventually("nobody came back to the hall", async || connected(&hall).await.is_none()).await;
    again.bye();
    eventually("it went out of the lobby", async || connected(&lobby).await.is_none()).await;
    eventually("and is there still", async || look(&bus, "alice").await.connections == 1).await;
    stop.cancel();
    running.await.unwrap();
    let mut all = told(&bus, &presence::rooms()).await;
    all.sort();
    let joined = said("JOINED", "alice", None);
    let (bye, lost) = (said("LEFT", "alice", Some("bye")), said("LEFT", "alice", Some("lost")));
    assert_eq!(all, [joined.clone(), joined, bye, lost]);
}

pub(crate) async fn who_is_there_may_lie_in_several_partitions(lab: impl Lab) {
    let bus = lab.bus();
    for name in [presence::presence(), presence::rooms()] {
        let settings = Queue { partitions: 4, max_age: seconds(3600), ..Queue::initial(name) };
        bus.declare_queue(settings).await.unwrap();
    }
    let (attendance, stop) = (Attendance::new(bus.clone()), CancellationToken::new());
    let running = tokio::spawn(attendance.clone().run(stop.clone()));
    let users: Vec<String> = (0..40).map(|n| format!("users/{n}")).collect();
    let mut here: Vec<_> = users.iter().map(|user| attendance.come(user, &format!("c_{user}"))).collect();
    for (number, attending) in here.iter_mut().enumerate() {
        attending.join(&format!("chat/{}", number % 8).parse().unwrap()).await.unwrap();
    }
    let online = async || bus.online(&users).await.unwrap().iter().filter(|shown| shown.online).count();
    eventually("all are online", async || online().await == 40).await;
    for room in 0..8 {
        let room = format!("chat/{room}").parse().unwrap();
        assert_eq!(bus.members(&room, None, 10).await.unwrap().count, 5);
    }
    for name in [presence::presence(), presence::rooms()] {
        let settings = bus.queue(&name).await.unwrap().unwrap();
        let refused = bus.declare_queue(Queue { partitions: 2, ..settings.clone() }).await;
        let Err(Error::Conflict(why)) = refused else { panic!("{refused:?}") };
        assert!(why.starts_with("partitions: ") && why.contains("4 partitions"), "{why}");
        let refused = bus.declare_queue(Queue { latest: false, ..settings.clone() }).await;
        assert!(matches!(&refused, Err(Error::Invalid(why)) if why.starts_with("latest: ")), "{refused:?}");
        let short = Queue { max_len: Some(5), overflow: Overflow::DropOldest, ..settings };
        bus.declare_queue(short).await.unwrap();
        lab.advance(seconds(120)).await;
        let status = bus.queues().await.unwrap().into_iter().find(|queue| queue.settings.name == name).unwrap();
        let ends: Vec<u64> = status.partitions.iter().map(|partition| partition.next - 1).collect();
        assert_eq!((ends.iter().sum::<u64>(), ends.iter().filter(|end| **end > 0).count()), (40, 4), "spread");
        assert!(status.partitions.iter().all(|partition| partition.next - partition.floor <= 5), "{status:?}");
    }
    assert_eq!(online().await, 40, "whatever is kept of when they came");
    here.drain(..).for_each(bus::Attending::bye);
    eventually("none is", async || online().await == 0).await;
    stop.cancel();
    running.await.unwrap();
}
