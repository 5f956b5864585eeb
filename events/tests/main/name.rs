use events::{Address, Filter, Name};

#[test]
fn an_address_is_a_queue_and_an_event() {
    let address: Address = "DB/CREATE".parse().unwrap();
    assert_eq!((address.queue.as_str(), address.event.as_str()), ("DB", "CREATE"));
    assert_eq!(address.to_string(), "DB/CREATE");
    for text in ["DB", "DB/", "/CREATE", "db/CREATE", "DB/CREATE/X", "DB/*"] {
        assert!(text.parse::<Address>().is_err(), "{text}");
    }
}

#[test]
fn a_filter_takes_one_some_or_all_events_of_its_queue() {
    let name = |text| Name::new(text).unwrap();
    for (filter, create, delete) in
        [("DB/*", true, true), ("DB/CREATE", true, false), ("DB/{CREATE,UPDATE}", true, false)]
    {
        let parsed: Filter = filter.parse().unwrap();
        assert_eq!(parsed.to_string(), filter);
        assert_eq!(parsed.matches(&name("DB"), &name("CREATE")), create, "{filter}");
        assert_eq!(parsed.matches(&name("DB"), &name("DELETE")), delete, "{filter}");
        assert!(!parsed.matches(&name("INVOICES"), &name("CREATE")), "{filter}");
    }
    for text in ["", "DB", "DB/{}", "DB/{CREATE", "DB/create", "*/CREATE"] {
        assert!(text.parse::<Filter>().is_err(), "{text}");
    }
}
