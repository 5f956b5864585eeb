use events::Address;

#[test]
fn an_address_is_a_queue_and_an_event() {
    let address: Address = "DB/CREATE".parse().unwrap();
    assert_eq!((address.queue.as_str(), address.event.as_str()), ("DB", "CREATE"));
    assert_eq!(address.to_string(), "DB/CREATE");
    for text in ["DB", "DB/", "/CREATE", "db/CREATE", "DB/CREATE/X", "DB/*"] {
        assert!(text.parse::<Address>().is_err(), "{text}");
    }
}
