//! What scopes allow.

use bus::Room;
use events::{Envelope, Name};
use principal::Principal;

use super::{
    Caller, Sight, client_address,
    permission::{OF_JOBS, RESERVED},
};
use crate::{filter::Filter, problem::Kind};

fn caller(scopes: &[&str]) -> Caller {
    let scopes = scopes.iter().map(|&scope| scope.to_owned()).collect();
    Caller::from(Principal { subject: "customers/1".into(), scopes, ..Principal::default() })
}

fn event(queue: &str, event: &str) -> Envelope {
    Envelope::new("/services/test", Name::new(queue).unwrap(), Name::new(event).unwrap())
}

fn read(caller: &Caller, filter: &str) -> Result<Sight, Kind> {
    caller.may_read(&filter.parse().unwrap()).map_err(|problem| problem.kind)
}

#[test]
fn a_filter_is_read_only_if_scopes_cover_all_of_it() {
    let reader = caller(&["events:read:DB/*", "events:read:*/CREATED", "events:read:ORDERS/{A,B}", "events:write:*/*"]);
    for filter in ["DB/*", "DB/CREATE", "*/CREATED", "ORDERS/{A,B,CREATED}", "DB/*,ORDERS/A"] {
        assert!(read(&reader, filter).is_ok(), "{filter}");
    }
    for filter in ["*/*", "ORDERS/*", "ORDERS/C", "DB/*,CARTS/*", "*/CREATE", "ORDERS/{A,C}"] {
        assert_eq!(read(&reader, filter).unwrap_err(), Kind::Forbidden, "{filter}");
    }
    assert!(read(&caller(&["events:read:*/*"]), "*/*,DB/{A,B}").is_ok());
    assert_eq!(read(&Caller::default(), "DB/*").unwrap_err(), Kind::Unauthenticated);
}

#[test]
fn own_shows_what_the_subject_owns_and_nothing_else() {
    let sight = read(&caller(&["events:read:own:ORDERS/*", "events:read:DB/*"]), "ORDERS/*,DB/*").unwrap();
    assert!(sight.sees(&event("DB", "CREATE")));
    assert!(sight.sees(&event("ORDERS", "PLACED").owner("customers/1")));
    assert!(!sight.sees(&event("ORDERS", "PLACED").owner("customers/2")));
    assert!(!sight.sees(&event("ORDERS", "PLACED")));
}

#[test]
fn a_scope_that_is_no_filter_allows_nothing() {
    let caller = caller(&["events:read:", "events:read:*", "events:read:own:", "events:write:DB", "bus:admins"]);
    assert!(read(&caller, "DB/A").is_err());
    assert!(caller.may_write(&Name::new("DB").unwrap(), &Name::new("A").unwrap()).is_err());
    assert!(caller.may_operate().is_err());
}

#[test]
fn a_group_is_worked_for_by_whom_a_scope_names() {
    let member = caller(&["events:consume:billing", "events:consume:shop.*", "events:consume:", "events:read:*/*"]);
    for group in ["billing", "shop.", "shop.mail"] {
        assert!(member.may_consume(group).is_ok(), "{group}");
    }
    for group in ["billing2", "bill", "shop", "logger", ""] {
        assert_eq!(member.may_consume(group).unwrap_err().kind, Kind::Forbidden, "{group}");
    }
    assert!(caller(&["bus:admin"]).may_consume("logger").is_ok());
    assert_eq!(Caller::default().may_consume("billing").unwrap_err().kind, Kind::Unauthenticated);
}

#[test]
fn a_group_gets_all_or_is_not_declared() {
    let filter = |text: &str| text.parse::<Filter>().unwrap();
    assert!(caller(&["events:read:DB/*"]).may_read_all(&filter("DB/CREATE")).is_ok());
    let own = caller(&["events:read:own:DB/*"]);
    assert!(own.may_read(&filter("DB/CREATE")).is_ok());
    assert_eq!(own.may_read_all(&filter("DB/CREATE")).unwrap_err().kind, Kind::Forbidden);
}

#[test]
fn a_webhook_takes_what_its_owner_may_read() {
    let filter = |text: &str| text.parse::<Filter>().unwrap();
    let partner = caller(&["events:read:DB/*", "events:read:own:ORDERS/*", "webhooks:read"]);
    let taken = partner.may_take(&filter("DB/CREATE,ORDERS/{A,B}")).unwrap();
    let text: Vec<String> = taken.iter().map(ToString::to_string).collect();
    assert_eq!(text.len(), 3);
    assert_eq!(text[0], "DB/CREATE");
    assert!(text[1].starts_with("ORDERS/A[owner=") && text[1].contains("customers/1"), "{text:?}");
    assert!(taken[1].matches(&event("ORDERS", "A").owner("customers/1")));
    assert!(!taken[1].matches(&event("ORDERS", "A").owner("customers/2")));
    assert_eq!(partner.may_take(&filter("CARTS/*")).unwrap_err().kind, Kind::Forbidden);
    assert!(partner.may_see_webhooks().is_ok());
    assert_eq!(partner.may_change_webhooks().unwrap_err().kind, Kind::Forbidden);
    assert!(partner.owns(Some("customers/1")) && !partner.owns(Some("customers/2")) && !partner.owns(None));
    assert!(caller(&["bus:admin"]).owns(Some("customers/2")));
    assert!(!Caller::default().owns(None));
}

#[test]
fn rooms_are_entered_and_written_by_their_scopes() {
    let room = |text: &str| text.parse::<Room>().unwrap();
    let member = caller(&[
        "rooms:join:chat/*",
        "rooms:join:game/team-*",
        "rooms:write:chat/lobby",
        "rooms:join:",
        "rooms:join:*",
    ]);
    for text in ["chat/lobby", "chat/x", "game/team-1"] {
        assert!(member.may_join(&room(text)).is_ok(), "{text}");
    }
    for text in ["chats/lobby", "game/lobby", "game/team"] {
        assert_eq!(member.may_join(&room(text)).unwrap_err().kind, Kind::Forbidden, "{text}");
    }
    let message = |room: &str| event("ROOMS", "MESSAGE").subject(room);
    assert!(member.may_publish(&message("chat/lobby")).is_ok());
    assert!(member.may_publish(&message("chat/lobby").partitionkey("chat/lobby")).is_ok());
    for (kind, wrong) in [
        (Kind::Forbidden, message("chat/x")),
        (Kind::Forbidden, event("ROOMS", "JOINED").subject("chat/lobby")),
        (Kind::Invalid, event("ROOMS", "MESSAGE")),
        (Kind::Invalid, message("lobby")),
        (Kind::Invalid, message("chat/lobby").partitionkey("k")),
    ] {
        assert_eq!(member.may_publish(&wrong).unwrap_err().kind, kind, "{wrong:?}");
    }
    assert!(caller(&["events:write:*/*"]).may_publish(&message("chat/lobby")).is_err(), "that is another scope");
    assert!(caller(&["rooms:write:*/*"]).may_publish(&message("chat/lobby")).is_ok());
    assert_eq!(Caller::default().may_join(&room("chat/lobby")).unwrap_err().kind, Kind::Unauthenticated);
}

#[test]
fn a_room_may_be_followed_by_whoever_may_be_in_it() {
    let member = caller(&["rooms:join:chat/*"]);
    assert!(read(&member, "ROOMS/*[subject=chat/lobby],ROOMS/MESSAGE[subject=chat/x][data.n=1]").is_ok());
    for filter in ["ROOMS/*", "ROOMS/*[subject^=chat/]", "ROOMS/*[subject=game/1]", "*/*[subject=chat/lobby]"] {
        assert!(read(&member, filter).is_err(), "{filter}");
    }
    let filter =
        "ROOMS/*[subject=chat/lobby],ROOMS/A[subject=chat/lobby],ROOMS/*[subject=game/1],DB/*".parse().unwrap();
    assert_eq!(member.rooms_of(&filter), ["chat/lobby".parse().unwrap()]);
    assert!(caller(&["events:read:*/*"]).rooms_of(&filter).is_empty(), "who only reads is in no room");
    assert!(read(&caller(&["rooms:join:*/*"]), "ROOMS/*,ROOMS/MESSAGE[data.n=1]").is_ok(), "all of them");
}

#[test]
fn who_reads_everything_is_shown_no_rooms_and_nobody_online() {
    let reader = ["events:read:*/*", "events:read:ROOMS/*", "events:read:own:PRESENCE/*"];
    for filter in ["ROOMS/*", "ROOMS/*[subject=chat/lobby]", "PRESENCE/*", "PRESENCE/ONLINE", "*/*,PRESENCE/*"] {
        assert_eq!(read(&caller(&reader), filter).unwrap_err(), Kind::Forbidden, "{filter}");
    }
    let (online, [lobby, team]) =
        (event("PRESENCE", "ONLINE"), ["chat/lobby", "game/team"].map(|room| event("ROOMS", "A").subject(room)));
    let name = |queue: &str| Name::new(queue).unwrap();
    let sight = read(&caller(&reader), "*/*,*/ONLINE").unwrap();
    assert!(sight.sees(&event("DB", "A")) && sight.looks_at(&name("DB")));
    for hidden in [&online, &lobby, &team] {
        assert!(!sight.sees(hidden) && !sight.looks_at(&hidden.queue), "{}", hidden.queue);
        assert_eq!(caller(&reader).may_read_event(hidden).unwrap_err().kind, Kind::Forbidden);
    }
    let member = caller(&["events:read:*/*", "rooms:join:chat/*", "presence:read"]);
    let sight = read(&member, "*/*").unwrap();
    assert!(sight.sees(&lobby) && !sight.sees(&team) && sight.looks_at(&name("ROOMS")));
    assert!(!sight.sees(&online), "who is online is told where that is named");
    assert!(read(&member, "*/*,PRESENCE/*").unwrap().sees(&online));
    assert!(member.may_read_event(&lobby).is_ok() && member.may_read_event(&online).is_ok());
    assert_eq!(member.may_read_event(&team).unwrap_err().kind, Kind::Forbidden);
}

#[test]
fn presence_is_seen_by_its_scope() {
    let seer = caller(&["presence:read"]);
    assert!(seer.may_see().is_ok() && read(&seer, "PRESENCE/*").is_ok());
    assert!(caller(&["events:read:DB/*"]).may_see().is_err());
}

#[test]
fn the_queues_of_the_bus_and_of_jobs_are_written_by_nobody() {
    let write =
        |queue: &str| caller(&["events:write:*/*"]).may_write(&Name::new(queue).unwrap(), &Name::new("A").unwrap());
    assert!(write("DB").is_ok());
    for queue in RESERVED.into_iter().chain(OF_JOBS) {
        assert_eq!(write(queue).unwrap_err().kind, Kind::Forbidden);
    }
}

#[test]
fn the_client_s_address_is_the_one_that_the_gateway_saw() {
    assert_eq!(client_address("6.6.6.6, 10.0.0.1").as_deref(), Some("10.0.0.1"));
    assert_eq!(client_address(""), None);
}
